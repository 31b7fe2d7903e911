build/case_02_arguments.o: case_02_arguments.c world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
