build/case_04_bookkeeping.o: case_04_bookkeeping.c world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
