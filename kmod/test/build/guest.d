build/guest.o: guest.c guest.h world.h harness.h ../../abi/kflux.h \
 ../../abi/flux.h ../../abi/handoff.h
