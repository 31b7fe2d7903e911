build/case_06_death.o: case_06_death.c vmm.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
