// SPDX-License-Identifier: Apache-2.0
// The time stamp counter, and futexes on shared words.
#ifndef HYPERFLUX_NATIVE_TSC_H
#define HYPERFLUX_NATIVE_TSC_H

#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

inline uint64_t TscNow() { return __rdtsc(); }

// Ticks in a millisecond. Measured at the first call, which takes about 50 ms; the same for the whole
// process.
uint32_t TscKhz();

// Words lie in files that several processes map, so these are never FUTEX_PRIVATE.
inline long FutexWait(uint32_t* word, uint32_t expected, const struct timespec* timeout) {
  return syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout, nullptr, 0);
}
inline long FutexWake(uint32_t* word, int count) {
  return syscall(SYS_futex, word, FUTEX_WAKE, count, nullptr, nullptr, 0);
}

#endif
