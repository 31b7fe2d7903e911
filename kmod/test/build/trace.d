build/trace.o: trace.c trace.h harness.h
