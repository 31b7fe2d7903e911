// SPDX-License-Identifier: Apache-2.0
// Shared by the probes that benchmarks use.
#ifndef HYPERFLUX_NATIVE_PROBE_H
#define HYPERFLUX_NATIVE_PROBE_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>

#include "tsc.h"

inline double TicksToNs(uint64_t ticks) { return static_cast<double>(ticks) * 1e6 / TscKhz(); }

// Spins for about so long, without giving the core up.
inline void SpinNs(uint64_t ns) {
  const uint64_t end = TscNow() + ns * TscKhz() / 1000000;
  while (static_cast<int64_t>(TscNow() - end) < 0)
    __builtin_ia32_pause();
}

// Whether the calling thread can run nowhere but there: then it cannot poll for what happens on that core.
inline bool OnlyRunsOn(int core) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1 && CPU_ISSET(core, &set);
}

// A thread that is pinned to a core from its first instruction on. 0 or an errno value.
inline int StartPinned(pthread_t* thread, int core, void* (*main)(void*), void* argument) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
  const int err = pthread_create(thread, &attributes, main, argument);
  pthread_attr_destroy(&attributes);
  return err;
}

// A thread that keeps its core busy. On a shared machine it is descheduled now and then, and a measurement of
// what it takes to interrupt it would then measure something else; so it shows that it runs.
struct Spinner {
  alignas(64) uint32_t progress = 0;
  alignas(64) uint32_t stop = 0;

  static void* Main(void* argument) {
    Spinner& spinner = *static_cast<Spinner*>(argument);
    while (__atomic_load_n(&spinner.stop, __ATOMIC_ACQUIRE) == 0) {
      __atomic_fetch_add(&spinner.progress, 1, __ATOMIC_RELAXED);
      __builtin_ia32_pause();
    }
    return nullptr;
  }
  // Returns when the thread has just been seen running.
  void AwaitProgress() {
    const uint32_t before = __atomic_load_n(&progress, __ATOMIC_RELAXED);
    while (__atomic_load_n(&progress, __ATOMIC_RELAXED) == before)
      __builtin_ia32_pause();
  }
  void End(pthread_t thread) {
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(thread, nullptr);
  }
};

#endif
