// SPDX-License-Identifier: Apache-2.0
#include "fail.h"

#include <errno.h>
#include <string.h>

std::string ErrnoName(int err) {
  // A table of our own, because strerrorname_np is not in every libc that Node runs on.
#define NAME(e) \
  case e:       \
    return #e
  switch (err) {
    NAME(EPERM);
    NAME(ENOENT);
    NAME(ESRCH);
    NAME(EINTR);
    NAME(EIO);
    NAME(ENXIO);
    NAME(E2BIG);
    NAME(EBADF);
    NAME(EAGAIN);
    NAME(ENOMEM);
    NAME(EACCES);
    NAME(EFAULT);
    NAME(EBUSY);
    NAME(EEXIST);
    NAME(ENODEV);
    NAME(ENOTDIR);
    NAME(EISDIR);
    NAME(EINVAL);
    NAME(ENFILE);
    NAME(EMFILE);
    NAME(EFBIG);
    NAME(ENOSPC);
    NAME(EROFS);
    NAME(EPIPE);
    NAME(ERANGE);
    NAME(ENAMETOOLONG);
    NAME(ENOSYS);
    NAME(ELOOP);
    NAME(EPROTO);
    NAME(EBADMSG);
    NAME(EOVERFLOW);
    NAME(EMSGSIZE);
    NAME(EOPNOTSUPP);
    NAME(ECONNRESET);
    NAME(ENOTSOCK);
    NAME(ENOTCONN);
    NAME(ETIMEDOUT);
    NAME(ECONNREFUSED);
    NAME(EALREADY);
    NAME(ESTALE);
    default:
      return "E" + std::to_string(err);
  }
#undef NAME
}

namespace {

// strerror_r in both its shapes: glibc returns the text, POSIX and musl fill the buffer in.
const char* Text(const char* returned, const char*) { return returned; }
[[maybe_unused]] const char* Text(int, const char* buffer) { return buffer; }

void Throw(Napi::Env env, const char* code, const std::string& message,
           napi_status (*create)(napi_env, napi_value, napi_value, napi_value*)) {
  // An earlier error is the more useful one, and JavaScript can hold only one.
  if (env.IsExceptionPending()) return;
  napi_value error;
  if (create(env, Napi::String::New(env, code), Napi::String::New(env, message), &error) != napi_ok) return;
  napi_throw(env, error);
}

}  // namespace

Napi::Value Fail(Napi::Env env, int err, const std::string& what, const std::string& hint) {
  char buffer[128] = "";
  std::string message = what + ": " + Text(strerror_r(err, buffer, sizeof buffer), buffer);
  if (!hint.empty()) message += ". " + hint;
  return FailWith(env, err, message);
}

Napi::Value FailWith(Napi::Env env, int err, const std::string& message) {
  Throw(env, ErrnoName(err).c_str(), message, napi_create_error);
  return env.Undefined();
}

void FailType(Napi::Env env, const std::string& message) {
  Throw(env, "ERR_INVALID_ARG_TYPE", message, napi_create_type_error);
}

void FailRange(Napi::Env env, const std::string& message) {
  Throw(env, "ERR_OUT_OF_RANGE", message, napi_create_range_error);
}
