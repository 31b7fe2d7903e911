build/case_01_abi.o: case_01_abi.c ioctls.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
