// SPDX-License-Identifier: Apache-2.0
// Sleeping on a shared word without a thread of JavaScript: Atomics.wait does not see writes of other
// processes.
#include <errno.h>
#include <limits.h>
#include <pthread.h>

#include <atomic>

#include "addon.h"
#include "args.h"
#include "bind.h"
#include "fail.h"
#include "tsc.h"

namespace {

struct Watch {
  std::shared_ptr<Region> region;
  uint32_t* word = nullptr;
  uint32_t first = 0;
  napi_threadsafe_function notify = nullptr;
  pthread_t thread{};
  std::atomic<bool> stop{false};
  std::atomic<bool> exited{false};
  // A call to JavaScript is on its way; changes meanwhile are covered by it, because it reads the word
  // itself.
  std::atomic<bool> pending{false};
  bool stopped = false;
};

void* WatchThread(void* argument) {
  Watch& watch = *static_cast<Watch*>(argument);
  uint32_t seen = watch.first;
  while (!watch.stop.load(std::memory_order_acquire)) {
    FutexWait(watch.word, seen, nullptr);
    // Acquire: pairs with the release of whoever bumps the word after what it announces.
    const uint32_t now = __atomic_load_n(watch.word, __ATOMIC_ACQUIRE);
    if (now == seen) continue;
    seen = now;
    if (!watch.pending.exchange(true, std::memory_order_acq_rel)) {
      napi_call_threadsafe_function(watch.notify, nullptr, napi_tsfn_nonblocking);
    }
  }
  watch.exited.store(true, std::memory_order_release);
  return nullptr;
}

void CallBack(napi_env env, napi_value function, void* context, void*) {
  // Null while the environment is being torn down.
  if (env == nullptr || function == nullptr) return;
  Watch& watch = *static_cast<Watch*>(context);
  // Cleared before the word is read: a change after the read makes another call.
  watch.pending.store(false, std::memory_order_release);
  if (watch.stopped) return;
  const int32_t value = static_cast<int32_t>(__atomic_load_n(watch.word, __ATOMIC_ACQUIRE));
  napi_value argument;
  napi_value undefined;
  if (napi_create_int32(env, value, &argument) != napi_ok || napi_get_undefined(env, &undefined) != napi_ok)
    return;
  napi_call_function(env, undefined, function, 1, &argument, nullptr);
}

void Stop(Watch& watch) {
  if (watch.stopped) return;
  watch.stopped = true;
  watch.stop.store(true, std::memory_order_release);
  // The thread may be just about to sleep, so one wake is not enough. Others who sleep on this word are woken
  // for nothing, which every user of a futex must bear.
  while (!watch.exited.load(std::memory_order_acquire)) {
    FutexWake(watch.word, INT_MAX);
    const struct timespec pause = {0, 100000L};
    nanosleep(&pause, nullptr);
  }
  pthread_join(watch.thread, nullptr);
}

void StopAtTeardown(void* argument) {
  Watch& watch = *static_cast<Watch*>(argument);
  Stop(watch);
  // The function is aborted, not released: its queue must not be run any more.
  napi_release_threadsafe_function(watch.notify, napi_tsfn_abort);
}

Napi::Value StopWatch(const Napi::CallbackInfo& info) {
  Watch& watch = Self<Watch>(info);
  if (watch.stopped) return info.Env().Undefined();
  napi_remove_env_cleanup_hook(info.Env(), StopAtTeardown, &watch);
  StopAtTeardown(&watch);
  return info.Env().Undefined();
}

Napi::Value WatchWord(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  auto watch = std::make_shared<Watch>();
  Napi::Function callback;
  bool keep_alive;
  if (!args.Word(0, 1, &watch->region, &watch->word) || !args.Function(2, "callback", &callback) ||
      !args.Bool(3, "keepAlive", &keep_alive)) {
    return env.Undefined();
  }
  // Read here and not by the thread: whatever changes after this call has returned is noticed.
  watch->first = __atomic_load_n(watch->word, __ATOMIC_ACQUIRE);
  // JavaScript's side and the finalizer below each hold the watch, so it outlives every call that is on its
  // way.
  auto* hold = new std::shared_ptr<Watch>(watch);
  const napi_status made = napi_create_threadsafe_function(
      env, callback, nullptr, Napi::String::New(env, "hyperflux:watchWord"), 0, 1, hold,
      [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Watch>*>(data); }, watch.get(),
      CallBack, &watch->notify);
  if (made != napi_ok) {
    delete hold;
    return Fail(env, ENOMEM, "cannot make a thread-safe function");
  }
  if (!keep_alive) napi_unref_threadsafe_function(env, watch->notify);
  const int err = pthread_create(&watch->thread, nullptr, WatchThread, watch.get());
  if (err != 0) {
    watch->stopped = true;
    napi_release_threadsafe_function(watch->notify, napi_tsfn_abort);
    return Fail(env, err, "cannot start the thread that watches a word");
  }
  // Hooks run in reverse order, so this one comes before the function's own.
  napi_add_env_cleanup_hook(env, StopAtTeardown, watch.get());
  Napi::Object result = Napi::Object::New(env);
  Bind<Watch, StopWatch>(result, "stop", watch);
  return result.Get("stop");
}

Napi::Value Wake(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Args args(info);
  std::shared_ptr<Region> region;
  uint32_t* word;
  int64_t count;
  if (!args.Word(0, 1, &region, &word) || !args.Int(2, "count", 1, INT_MAX, &count)) return env.Undefined();
  const long woken = FutexWake(word, static_cast<int>(count));
  if (woken < 0) return Fail(env, errno, "cannot wake the sleepers on a word");
  return Napi::Number::New(env, static_cast<double>(woken));
}

}  // namespace

void InitFutex(Napi::Object exports) {
  Export<WatchWord>(exports, "watchWord");
  Export<Wake>(exports, "futexWake");
}
