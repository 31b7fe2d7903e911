build/harness_util.o: harness_util.c harness.h
