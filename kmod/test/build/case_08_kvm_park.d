build/case_08_kvm_park.o: case_08_kvm_park.c guest.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
