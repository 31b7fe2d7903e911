build/world.o: world.c world.h harness.h ../../abi/kflux.h \
 ../../abi/flux.h ../../abi/handoff.h
