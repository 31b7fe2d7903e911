// SPDX-License-Identifier: Apache-2.0
// One datagram to a service manager (sd_notify): Node has no Unix datagram sockets.
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"

namespace {

constexpr size_t kMaxText = 4096;
// A manager that is busy may have a full queue for a moment; it must not stop its own service for longer.
constexpr struct timeval kPatience = {1, 0};

Napi::Value Notify(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  struct sockaddr_un address = {};
  std::string path;
  std::string text;
  if (!args.Text(0, "path", sizeof address.sun_path - 1, &path) || !args.Text(1, "text", kMaxText, &text)) {
    return env.Undefined();
  }
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  // An abstract address begins with NUL and has no end but its length; NUL cannot be written in an
  // environment variable, so @ stands for it.
  if (path[0] == '@') address.sun_path[0] = '\0';
  const bool abstract = path[0] == '@';
  const auto length =
      static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));

  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Fail(env, errno, "cannot create a socket");
  int err = 0;
  if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience) != 0) err = errno;
  while (err == 0) {
    const ssize_t sent = sendto(fd, text.data(), text.size(), MSG_NOSIGNAL,
                                reinterpret_cast<const struct sockaddr*>(&address), length);
    if (sent >= 0) break;
    if (errno != EINTR) err = errno;
  }
  close(fd);
  if (err == 0) return env.Undefined();
  return Fail(env, err, "cannot send a message to " + path,
              err == ENOENT || err == ECONNREFUSED ? "Nobody listens there" : "");
}

}  // namespace

void InitNotify(Napi::Object exports) { Export<Notify>(exports, "notify"); }
