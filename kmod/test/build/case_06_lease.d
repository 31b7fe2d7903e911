build/case_06_lease.o: case_06_lease.c vmm.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
