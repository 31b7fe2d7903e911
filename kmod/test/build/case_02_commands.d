build/case_02_commands.o: case_02_commands.c world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
