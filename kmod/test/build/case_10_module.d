build/case_10_module.o: case_10_module.c holder.h world.h harness.h \
 ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
