build/case_03_permissions.o: case_03_permissions.c world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
