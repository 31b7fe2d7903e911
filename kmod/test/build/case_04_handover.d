build/case_04_handover.o: case_04_handover.c world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
