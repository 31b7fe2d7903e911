build/case_08_kvm_run.o: case_08_kvm_run.c guest.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
