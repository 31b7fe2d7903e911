build/holder.o: holder.c holder.h harness.h
