build/case_09_hotplug.o: case_09_hotplug.c cpu.h harness.h guest.h \
 world.h ../../abi/kflux.h ../../abi/flux.h ../../abi/handoff.h
