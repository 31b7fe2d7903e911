build/harness.o: harness.c harness.h holder.h
