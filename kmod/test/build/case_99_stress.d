build/case_99_stress.o: case_99_stress.c cpu.h harness.h stress.h guest.h \
 world.h ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h trace.h
