build/case_11_fuzz.o: case_11_fuzz.c ioctls.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
