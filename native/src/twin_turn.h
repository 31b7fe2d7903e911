// SPDX-License-Identifier: Apache-2.0
// The turn as C: arbiter/loop/turn.ts. Each of the files twin_level_*.cc includes this one with another CPU
// level set for the compiler, and everything here stays private to that file: no function compiled for a CPU
// that is not there can be taken for its namesake. Only C headers are included, for the same reason.
#ifndef HYPERFLUX_NATIVE_TWIN_TURN_H
#define HYPERFLUX_NATIVE_TWIN_TURN_H

#include "twin_commands.h"
#include "twin_guard.h"
#include "twin_policy.h"
#include "twin_scan.h"
#include "twin_stage.h"

namespace {

constexpr int32_t kGapNs = 10000;

inline int32_t BucketOf(int32_t value) {
  const int32_t v = value < 0 ? 0 : value;
  if (v < 32) return v;
  const int shift = 31 - __builtin_clz(static_cast<uint32_t>(v)) - 5;
  return (shift + 1) * 32 + ((v >> shift) & 31);
}

inline int32_t Ns(const TwinState& s, int32_t ticks) { return static_cast<int32_t>(ticks * s.ns_per_tick); }

inline void MeasureTurn(TwinState& s, int32_t low) {
  if (s.has_last != 0) {
    const int32_t ns = Ns(s, Since(low, s.last_low));
    s.turn_ns[BucketOf(ns)]++;
    if (ns >= kGapNs) s.gap_ns[BucketOf(ns)]++;
  }
  s.last_low = low;
  s.has_last = 1;
}

inline void DecideTurn(TwinState& s) {
  for (int32_t k = 0; k < s.cores; k++) {
    const int32_t* core = s.stage.table + s.core_at[k];
    s.v.coreHeir[k] = SlotOfHandle(Peek(core + CORE(heir)));
    if (s.core_guest[k] < 0) {
      const bool offline = (Peek(core + CORE(flags)) & FLUX_CORE_OFFLINE) != 0;
      s.v.coreFlags[k] = offline || SuccessorOf(s.core_low[k]) != 0 ? kCoreMoving : 0;
    }
    s.v.target[k] = s.v.coreVm[k];
    s.v.why[k] = kWhyNone;
    s.v.heir[k] = kNoVm;
  }
  Decide(s);
  s.counters.edits += static_cast<uint32_t>(RunGuard(s));
  CarryOut(s);
  s.counters.decisions++;
}

inline void Turn(TwinState& s) {
  // Others write what this reads; nothing may be kept in registers from one turn to the next.
  __asm__ volatile("" ::: "memory");
  StageClock(s.stage);
  const TwinControl* clock = s.stage.control;
  const int32_t low = static_cast<int32_t>(clock->tsc_lo);
  const uint64_t tsc = static_cast<uint64_t>(clock->tsc_hi) << 32 | clock->tsc_lo;
  const int32_t now = static_cast<int32_t>(tsc >> s.stage.shift);
  MeasureTurn(s, low);
  s.v.head[kHeadNow] = now;
  ScanCores(s, now);
  ScanVms(s, now);
  if ((s.v.head[kHeadHot] | s.events | s.nudge) != 0) {
    s.nudge = 0;
    s.counters.core_events += static_cast<uint32_t>(s.events);
    DecideTurn(s);
    StageClock(s.stage);
    s.decision_ns[BucketOf(Ns(s, Since(static_cast<int32_t>(clock->tsc_lo), low)))]++;
  }
  // The stage has never anything in flight.
  if (s.in_flight != 0) s.in_flight = 0;
}

inline void Chunk(TwinState& s, int32_t n) {
  int32_t i = 0;
  for (; i < n && s.stale == 0; i++)
    Turn(s);
  s.counters.turns += static_cast<uint32_t>(i);
  StageBeat(s.stage);
}

}  // namespace

#endif
