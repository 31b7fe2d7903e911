build/case_07_blocked.o: case_07_blocked.c guest.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
