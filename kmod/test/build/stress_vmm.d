build/stress_vmm.o: stress_vmm.c stress.h guest.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
