// SPDX-License-Identifier: Apache-2.0
// Waiting for a word to change, at the resolution of a spinning core: JavaScript would see it later and
// allocate.
#include <errno.h>

#include "args.h"
#include "fail.h"
#include "probe.h"
#include "probes.h"

Napi::Value WaitWordChange(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  std::shared_ptr<Region> region;
  uint32_t* word;
  int64_t old;
  int64_t timeout_us;
  int32_t* out;
  size_t length;
  if (!args.Word(0, 1, &region, &word) || !args.Int(2, "old", INT32_MIN, UINT32_MAX, &old) ||
      !args.Int(3, "timeoutUs", 0, int64_t{3600} * 1000000, &timeout_us) ||
      !args.Int32s(4, "out", &out, &length)) {
    return env.Undefined();
  }
  if (length < 2) {
    FailRange(env, "out must have room for two words, low and high");
    return env.Undefined();
  }
  const uint32_t before = static_cast<uint32_t>(old);
  const uint64_t end = TscNow() + static_cast<uint64_t>(timeout_us) * TscKhz() / 1000;
  uint64_t now;
  bool changed;
  do {
    // The word first and the time after it: the stamp is never earlier than the change.
    changed = __atomic_load_n(word, __ATOMIC_ACQUIRE) != before;
    now = TscNow();
  } while (!changed && static_cast<int64_t>(now - end) < 0);
  out[0] = static_cast<int32_t>(now);
  out[1] = static_cast<int32_t>(now >> 32);
  return Napi::Number::New(env, changed ? 1 : 0);
}
