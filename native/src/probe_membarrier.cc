// SPDX-License-Identifier: Apache-2.0
// An interrupt to a busy core and back, without any wake-up: membarrier sends one to every core that runs a
// thread of this process. It is the part of a kick that no design can avoid.
#include <errno.h>
#include <linux/membarrier.h>

#include "abi.h"
#include "args.h"
#include "fail.h"
#include "probe.h"
#include "probes.h"

Napi::Value MembarrierFloor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t core;
  int64_t n;
  double* out;
  size_t length;
  if (!args.Int(0, "core", 0, FLUX_MAX_CORES - 1, &core) || !args.Float64s(2, "out", &out, &length) ||
      !args.Int(1, "n", 1, static_cast<int64_t>(length), &n)) {
    return env.Undefined();
  }
  if (OnlyRunsOn(static_cast<int>(core))) {
    return Fail(env, EINVAL, "core " + std::to_string(core) + " is the caller's own",
                "Pin the calling thread to another core");
  }
  TscKhz();
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0) {
    return Fail(env, errno, "this kernel has no expedited membarrier");
  }
  Spinner spinner;
  pthread_t thread;
  int err = StartPinned(&thread, static_cast<int>(core), Spinner::Main, &spinner);
  if (err != 0)
    return Fail(env, err, "cannot start a thread on core " + std::to_string(core),
                "Is it online and in this process's cpuset?");
  for (int64_t i = 0; i < n && err == 0; i++) {
    // Apart, so that the other core has left the interrupt before the next one comes.
    SpinNs(20000);
    spinner.AwaitProgress();
    const uint64_t before = TscNow();
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) err = errno;
    out[i] = TicksToNs(TscNow() - before);
  }
  spinner.End(thread);
  if (err != 0) return Fail(env, err, "membarrier failed");
  return Napi::Number::New(env, static_cast<double>(n));
}
