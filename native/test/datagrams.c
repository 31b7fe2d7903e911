// SPDX-License-Identifier: Apache-2.0
// A service manager's end of sd_notify: binds argv[1] (a path, or @name for an abstract address), says
// "ready", and prints each datagram as one line: the sender's process, then its text with ';' for line ends.
// Ends with its parent.
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sockaddr_un address;
  memset(&address, 0, sizeof address);
  if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) return 2;
  const size_t size = strlen(argv[1]);
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, argv[1], size);
  if (argv[1][0] == '@') address.sun_path[0] = 0;
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  const socklen_t length = offsetof(struct sockaddr_un, sun_path) + size + (argv[1][0] == '@' ? 0 : 1);
  if (bind(fd, (struct sockaddr*)&address, length) != 0) {
    perror(argv[1]);
    return 1;
  }
  puts("ready");
  fflush(stdout);
  for (;;) {
    char text[8192];
    char control[CMSG_SPACE(sizeof(struct ucred))];
    struct iovec part = {text, sizeof text};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t n = recvmsg(fd, &message, 0);
    if (n < 0) continue;
    struct ucred sender = {0, 0, 0};
    const struct cmsghdr* first = CMSG_FIRSTHDR(&message);
    if (first != NULL) memcpy(&sender, CMSG_DATA(first), sizeof sender);
    for (ssize_t i = 0; i < n; i++)
      if (text[i] == '\n') text[i] = ';';
    printf("%d %.*s\n", sender.pid, (int)n, text);
    fflush(stdout);
  }
}
