// SPDX-License-Identifier: Apache-2.0
// What the kernel counts for whoever asks (perf_event_open): how often a tracepoint was hit, by a thread or
// on a core. Counting only, nothing is sampled, so that a benchmark can tell what a move is made of.
#include <errno.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"

namespace {

Napi::Value CounterOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t id;
  int64_t tid;
  int64_t core;
  if (!args.Int(0, "tracepoint", 1, INT_MAX, &id) || !args.Int(1, "tid", -1, INT_MAX, &tid) ||
      !args.Int(2, "core", -1, INT_MAX, &core)) {
    return env.Undefined();
  }
  if (tid < 0 && core < 0) {
    FailRange(env, "a counter needs a thread or a core to count for");
    return env.Undefined();
  }
  perf_event_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.size = sizeof attr;
  attr.type = PERF_TYPE_TRACEPOINT;
  attr.config = static_cast<uint64_t>(id);
  const long fd = syscall(SYS_perf_event_open, &attr, static_cast<pid_t>(tid), static_cast<int>(core), -1,
                          PERF_FLAG_FD_CLOEXEC);
  if (fd < 0) {
    return Fail(env, errno, "cannot count tracepoint " + std::to_string(id),
                "Counting needs root, or CAP_PERFMON and a kernel with perf events");
  }
  return Napi::Number::New(env, static_cast<double>(fd));
}

Napi::Value CounterRead(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int fd;
  if (!Args(info).Fd(0, "fd", &fd)) return env.Undefined();
  uint64_t count = 0;
  const ssize_t bytes = read(fd, &count, sizeof count);
  if (bytes != sizeof count) return Fail(env, bytes < 0 ? errno : EIO, "cannot read the counter");
  return Napi::Number::New(env, static_cast<double>(count));
}

}  // namespace

void InitCounters(Napi::Object exports) {
  Export<CounterOpen>(exports, "counterOpen");
  Export<CounterRead>(exports, "counterRead");
}
