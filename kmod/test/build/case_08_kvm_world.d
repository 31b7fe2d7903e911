build/case_08_kvm_world.o: case_08_kvm_world.c guest.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
