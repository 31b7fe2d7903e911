// SPDX-License-Identifier: Apache-2.0
// The VMM protocol's transport (abi/protocol.h): length-prefixed frames over a Unix socket, with descriptors.
// What the frames say is none of this file's business. Calls block up to their timeout; they are meant for a
// main thread that has nothing else to do.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <vector>

#include "abi.h"
#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"

namespace {

constexpr int64_t kMaxTimeoutMs = 600000;
// A good answer brings two descriptors; more than this many are a bad one.
constexpr size_t kMaxFds = 8;

class Deadline {
 public:
  explicit Deadline(int64_t ms) : end_(Now() + ms) {}
  bool Over() const { return Now() >= end_; }
  // 0 once something is ready, or an errno value.
  int Wait(int fd, short events) const {
    for (;;) {
      const int64_t left = end_ - Now();
      struct pollfd p = {fd, events, 0};
      const int n = poll(&p, 1, left > 0 ? static_cast<int>(left) : 0);
      if (n > 0) return 0;
      if (n == 0) return ETIMEDOUT;
      if (errno != EINTR) return errno;
    }
  }

 private:
  static int64_t Now() {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
  }
  int64_t end_;
};

int SendAll(int fd, const uint8_t* data, size_t bytes, const Deadline& deadline) {
  while (bytes > 0) {
    const ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      data += n;
      bytes -= static_cast<size_t>(n);
    } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      const int err = deadline.Wait(fd, POLLOUT);
      if (err != 0) return err;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

// Reads exactly `bytes`, adding to *fds what comes along. Descriptors travel with some byte of an answer, so
// every read looks for them.
int ReceiveAll(int fd, uint8_t* data, size_t bytes, std::vector<int>* fds, const Deadline& deadline) {
  while (bytes > 0) {
    alignas(struct cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))];
    struct iovec part = {data, bytes};
    struct msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return errno;
      const int err = deadline.Wait(fd, POLLIN);
      if (err != 0) return err;
      continue;
    }
    for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; i++) {
        int received;
        memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof received);
        fds->push_back(received);
      }
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0 || fds->size() > kMaxFds) return EMSGSIZE;
    if (n == 0) return ECONNRESET;
    data += n;
    bytes -= static_cast<size_t>(n);
  }
  return 0;
}

Napi::Value ConnectUnix(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  struct sockaddr_un address = {};
  std::string path;
  int64_t timeout;
  if (!args.Text(0, "path", sizeof address.sun_path - 1, &path) ||
      !args.Int(1, "timeoutMs", 0, kMaxTimeoutMs, &timeout)) {
    return env.Undefined();
  }
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Fail(env, errno, "cannot create a socket");
  const Deadline deadline(timeout);
  int err;
  for (;;) {
    err = connect(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
    // A full backlog. A Unix socket cannot be polled for room in it, so it is tried again.
    if (err != EINTR && err != EAGAIN) break;
    if (deadline.Over()) {
      err = ETIMEDOUT;
      break;
    }
    const struct timespec pause = {0, 2000000L};
    nanosleep(&pause, nullptr);
  }
  if (err != 0) {
    close(fd);
    return Fail(env, err, "cannot connect to " + path,
                err == ENOENT || err == ECONNREFUSED
                    ? "Nobody listens there: the process that owned it is gone or not there yet"
                    : "");
  }
  return Napi::Number::New(env, fd);
}

Napi::Value ExchangeFrame(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int fd;
  const uint8_t* body;
  size_t bytes;
  int64_t timeout;
  if (!args.Fd(0, "fd", &fd) || !args.Bytes(1, "frame", &body, &bytes) ||
      !args.Int(2, "timeoutMs", 0, kMaxTimeoutMs, &timeout)) {
    return env.Undefined();
  }
  if (bytes < 1 || bytes > FLUX_FRAME_MAX) {
    FailRange(env, "frame must have 1 to " + std::to_string(FLUX_FRAME_MAX) + " bytes");
    return env.Undefined();
  }
  const Deadline deadline(timeout);
  std::vector<uint8_t> out(4 + bytes);
  const uint32_t length = static_cast<uint32_t>(bytes);
  memcpy(out.data(), &length, 4);
  memcpy(out.data() + 4, body, bytes);

  std::vector<int> fds;
  std::vector<uint8_t> answer;
  std::string what = "cannot send a frame";
  int err = SendAll(fd, out.data(), out.size(), deadline);
  if (err == 0) {
    what = "cannot read the answer to a frame";
    uint32_t answer_length = 0;
    err = ReceiveAll(fd, reinterpret_cast<uint8_t*>(&answer_length), 4, &fds, deadline);
    if (err == 0 && (answer_length < 1 || answer_length > FLUX_FRAME_MAX)) {
      what = "the answer claims to be " + std::to_string(answer_length) + " bytes long";
      err = EPROTO;
    }
    if (err == 0) {
      answer.resize(answer_length);
      err = ReceiveAll(fd, answer.data(), answer.size(), &fds, deadline);
    }
  }
  if (err != 0) {
    for (const int received : fds)
      close(received);
    return Fail(env, err, what,
                err == ECONNRESET || err == EPIPE ? "The other side closed the connection" : "");
  }
  Napi::Object result = Napi::Object::New(env);
  Napi::Uint8Array frame = Napi::Uint8Array::New(env, answer.size());
  memcpy(frame.Data(), answer.data(), answer.size());
  result.Set("frame", frame);
  Napi::Array list = Napi::Array::New(env);
  for (const int received : fds)
    list.Set(list.Length(), received);
  result.Set("fds", list);
  return result;
}

Napi::Value PeerCred(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int fd;
  if (!Args(info).Fd(0, "fd", &fd)) return env.Undefined();
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return Fail(env, errno, "cannot ask who is at the other end of file descriptor " + std::to_string(fd));
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("pid", static_cast<double>(peer.pid));
  result.Set("uid", static_cast<double>(peer.uid));
  result.Set("gid", static_cast<double>(peer.gid));
  return result;
}

}  // namespace

void InitSockets(Napi::Object exports) {
  Export<ConnectUnix>(exports, "connectUnix");
  Export<ExchangeFrame>(exports, "exchangeFrame");
  Export<PeerCred>(exports, "peerCred");
}
