build/vmm.o: vmm.c vmm.h world.h harness.h ../../abi/kflux.h \
 ../../abi/flux.h ../../abi/handoff.h
