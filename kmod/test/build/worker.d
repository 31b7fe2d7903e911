build/worker.o: worker.c world.h harness.h ../../abi/kflux.h \
 ../../abi/flux.h ../../abi/handoff.h
