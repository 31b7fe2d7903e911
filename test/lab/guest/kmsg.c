// SPDX-License-Identifier: Apache-2.0
/* Writes the kernel's whole log to stdout, as records of /dev/kmsg, and ends at its end. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
	char record[16384];
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (log < 0) {
		fprintf(stderr, "kmsg: /dev/kmsg: %s\n", strerror(errno));
		return 1;
	}
	for (;;) {
		ssize_t length = read(log, record, sizeof(record));
		/* EPIPE: records were overwritten before they were read; the next read goes on after them. */
		if (length < 0 && (errno == EPIPE || errno == EINTR))
			continue;
		if (length < 0 && errno == EAGAIN)
			return 0;
		if (length <= 0) {
			fprintf(stderr, "kmsg: read: %s\n", strerror(errno));
			return 1;
		}
		if (fwrite(record, 1, (size_t)length, stdout) != (size_t)length)
			return 1;
	}
}
