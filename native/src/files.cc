// SPDX-License-Identifier: Apache-2.0
// Locks and descriptors.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <unistd.h>

#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"

namespace {

Napi::Value LockFile(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string path;
  if (!Args(info).Text(0, "path", PATH_MAX - 1, &path)) return env.Undefined();
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return Fail(env, errno, "cannot open the lock file " + path,
                "Does its directory exist, and may you write to it?");
  // flock and not a POSIX lock: those are lost as soon as any descriptor of the file is closed in this
  // process.
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int err = errno;
    close(fd);
    if (err == EWOULDBLOCK) return env.Null();
    return Fail(env, err, "cannot lock " + path);
  }
  return Napi::Number::New(env, fd);
}

Napi::Value OpenAt(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t dir;
  std::string path;
  int64_t flags;
  int64_t mode;
  if (!args.Int(0, "dirFd", -1, INT_MAX, &dir) || !args.Text(1, "path", PATH_MAX - 1, &path) ||
      !args.Int(2, "flags", 0, INT_MAX, &flags) || !args.Int(3, "mode", 0, 07777, &mode)) {
    return env.Undefined();
  }
  const int fd = openat(dir < 0 ? AT_FDCWD : static_cast<int>(dir), path.c_str(),
                        static_cast<int>(flags) | O_CLOEXEC, static_cast<mode_t>(mode));
  if (fd < 0) return Fail(env, errno, "cannot open " + path);
  return Napi::Number::New(env, fd);
}

Napi::Value CloseFd(const Napi::CallbackInfo& info) {
  int fd;
  if (!Args(info).Fd(0, "fd", &fd)) return info.Env().Undefined();
  // After EINTR Linux has closed it all the same.
  if (close(fd) != 0 && errno != EINTR) {
    return Fail(info.Env(), errno, "cannot close file descriptor " + std::to_string(fd));
  }
  return info.Env().Undefined();
}

}  // namespace

void InitFiles(Napi::Object exports) {
  Export<LockFile>(exports, "lockFile");
  Export<OpenAt>(exports, "openAt");
  Export<CloseFd>(exports, "closeFd");
}
