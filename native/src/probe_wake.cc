// SPDX-License-Identifier: Apache-2.0
// The two floors of every latency benchmark: a futex wake of a sleeper on another core that is idle, and one
// that preempts something running there. The waker is the calling thread, which polls for the answer; pin it
// first.
#include <errno.h>
#include <sched.h>

#include "abi.h"
#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"
#include "probe.h"
#include "probes.h"

namespace {

// Each word on a line of its own, so that polling one does not slow writing the other.
struct alignas(64) Line {
  uint32_t word = 0;
};

struct Sleeper {
  Line bell;      // futex: the number of the round
  Line answered;  // the last round that the sleeper woke for
  alignas(64) uint64_t woken = 0;
  Line stop;
};

void* SleeperMain(void* argument) {
  Sleeper& s = *static_cast<Sleeper*>(argument);
  for (uint32_t round = 0;;) {
    FutexWait(&s.bell.word, round, nullptr);
    const uint64_t now = TscNow();
    // Acquire: pairs with the waker's release of the round, and with its stop before the last one.
    const uint32_t next = __atomic_load_n(&s.bell.word, __ATOMIC_ACQUIRE);
    if (next == round) continue;
    if (__atomic_load_n(&s.stop.word, __ATOMIC_ACQUIRE) != 0) return nullptr;
    round = next;
    __atomic_store_n(&s.woken, now, __ATOMIC_RELAXED);
    __atomic_store_n(&s.answered.word, round, __ATOMIC_RELEASE);
  }
}

void Wake(Sleeper& s, uint32_t round) {
  __atomic_store_n(&s.bell.word, round, __ATOMIC_RELEASE);
  FutexWake(&s.bell.word, 1);
}

// Fills out[0..n) with nanoseconds from just before the wake to the sleeper's first instruction.
Napi::Value Measure(const Napi::CallbackInfo& info, bool preempt) {
  const Napi::Env env = info.Env();
  const Args args(info);
  int64_t core;
  int64_t n;
  double* out;
  size_t length;
  int64_t gap_us;
  std::string donor = "idle";
  if (!args.Int(0, "core", 0, FLUX_MAX_CORES - 1, &core) || !args.Float64s(2, "out", &out, &length) ||
      !args.Int(1, "n", 1, static_cast<int64_t>(length), &n) || !args.Int(3, "gapUs", 1, 100000, &gap_us) ||
      (preempt && !args.Text(4, "donor", 8, &donor))) {
    return env.Undefined();
  }
  if (donor != "idle" && donor != "other") {
    FailRange(env, "donor must be 'idle' or 'other', not '" + donor + "'");
    return env.Undefined();
  }
  if (OnlyRunsOn(static_cast<int>(core))) {
    return Fail(env, EINVAL, "core " + std::to_string(core) + " is the caller's own",
                "Pin the calling thread to another core");
  }
  TscKhz();
  // On the heap and alive until both threads are joined.
  auto sleeper = std::make_unique<Sleeper>();
  Spinner spinner;
  pthread_t thread;
  pthread_t donor_thread = {};
  int err = StartPinned(&thread, static_cast<int>(core), SleeperMain, sleeper.get());
  if (err != 0)
    return Fail(env, err, "cannot start a thread on core " + std::to_string(core),
                "Is it online and in this process's cpuset?");
  if (preempt) {
    err = StartPinned(&donor_thread, static_cast<int>(core), Spinner::Main, &spinner);
    if (err == 0 && donor == "idle") {
      struct sched_param param = {};
      pthread_setschedparam(donor_thread, SCHED_IDLE, &param);
    }
  }
  uint32_t round = 0;
  for (int64_t i = 0; err == 0 && i < n; i++) {
    SpinNs(static_cast<uint64_t>(gap_us) * 1000);
    if (preempt) spinner.AwaitProgress();
    round++;
    const uint64_t before = TscNow();
    Wake(*sleeper, round);
    while (__atomic_load_n(&sleeper->answered.word, __ATOMIC_ACQUIRE) != round)
      __builtin_ia32_pause();
    out[i] = TicksToNs(__atomic_load_n(&sleeper->woken, __ATOMIC_RELAXED) - before);
  }
  __atomic_store_n(&sleeper->stop.word, 1, __ATOMIC_RELEASE);
  Wake(*sleeper, round + 1);
  pthread_join(thread, nullptr);
  if (preempt && err == 0) spinner.End(donor_thread);
  if (err != 0) return Fail(env, err, "cannot start the thread that is to be preempted");
  return Napi::Number::New(env, static_cast<double>(n));
}

}  // namespace

Napi::Value FutexWakeFloor(const Napi::CallbackInfo& info) { return Measure(info, false); }

Napi::Value PreemptionFloor(const Napi::CallbackInfo& info) { return Measure(info, true); }

void InitProbes(Napi::Object exports) {
  Export<WaitWordChange>(exports, "waitWordChange");
  Export<FutexWakeFloor>(exports, "futexWakeFloor");
  Export<PreemptionFloor>(exports, "preemptionFloor");
  Export<MembarrierFloor>(exports, "membarrierFloor");
}
