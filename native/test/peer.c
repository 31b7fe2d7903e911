/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of sockets.test.ts, because Node cannot send descriptors. Usage: peer PATH MODE. Listens, says
 * "ready" on its output, serves one connection and ends. Answers are "hello" and "attach"; with the second come
 * two memory files whose first bytes are 'c' and 't'.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int read_all(int fd, void *to, size_t bytes)
{
	for (size_t have = 0; have < bytes;) {
		ssize_t n = read(fd, (char *)to + have, bytes - have);
		if (n <= 0)
			return -1;
		have += n;
	}
	return 0;
}

static int read_frame(int fd, char *text)
{
	uint32_t length;

	if (read_all(fd, &length, 4) || length > 100 || read_all(fd, text, length))
		return -1;
	text[length] = 0;
	return 0;
}

/* In pieces, as a stream may arrive: the descriptors come with the first. */
static void answer(int fd, const char *text, const int *fds, int count)
{
	char data[128], control[CMSG_SPACE(32 * sizeof(int))];
	uint32_t length = strlen(text);
	struct iovec part = { data, 3 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	memcpy(data, &length, 4);
	memcpy(data + 4, text, length);
	if (count > 0) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	if (sendmsg(fd, &message, 0) != 3 || write(fd, data + 3, 3) != 3 ||
	    write(fd, data + 6, 4 + length - 6) < 0)
		perror("peer");
}

static int file(char first)
{
	int fd = memfd_create("peer", 0);

	if (ftruncate(fd, 4096) || write(fd, &first, 1) != 1)
		perror("peer");
	return fd;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *mode = argc == 3 ? argv[2] : "";
	char text[128];
	int fds[32], listener = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path, argc == 3 ? argv[1] : "", sizeof(address.sun_path) - 1);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 1)) {
		perror("peer");
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	int fd = accept(listener, NULL, NULL);
	if (read_frame(fd, text))
		return 1;
	if (!strcmp(mode, "silent")) {
		read_frame(fd, text); /* until the other side gives up */
		return 0;
	}
	if (!strcmp(mode, "huge")) {
		uint32_t length = 0xffffffff;
		return write(fd, &length, 4) != 4;
	}
	if (!strcmp(mode, "cut")) {
		uint32_t length = 10;
		return write(fd, &length, 4) != 4 || write(fd, "abc", 3) != 3;
	}
	if (strcmp(text, "say hello"))
		return 1;
	answer(fd, "hello", NULL, 0);
	if (!strcmp(mode, "reject"))
		return 0;
	if (read_frame(fd, text) || strcmp(text, "say attach"))
		return 1;
	int count = !strcmp(mode, "many") ? 32 : 2;
	for (int i = 0; i < count; i++)
		fds[i] = file(i == 0 ? 'c' : 't');
	answer(fd, "attach", fds, count);
	read_frame(fd, text); /* until the connection is closed */
	return 0;
}
