build/case_02_pointers.o: case_02_pointers.c ioctls.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
