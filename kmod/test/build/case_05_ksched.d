build/case_05_ksched.o: case_05_ksched.c guest.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
