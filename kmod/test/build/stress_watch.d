build/stress_watch.o: stress_watch.c stress.h guest.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
