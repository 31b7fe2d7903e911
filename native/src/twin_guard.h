// SPDX-License-Identifier: Apache-2.0
// The guard as C: arbiter/guard/guard.ts. Included once for each CPU level.
#ifndef HYPERFLUX_NATIVE_TWIN_GUARD_H
#define HYPERFLUX_NATIVE_TWIN_GUARD_H

#include "twin_state.h"

namespace {

constexpr int kGuardPasses = 4;

inline bool IsKnown(const TwinState& s, int32_t vm) {
  return static_cast<uint32_t>(vm) < FLUX_MAX_VMS && s.v.known[vm] != 0;
}

inline int TakeWishes(TwinState& s, int32_t cores) {
  int edited = 0;
  for (int32_t k = 0; k < cores; k++) {
    const int32_t wish = s.v.target[k];
    s.v.edits[k] = kWhyNone;
    s.v.allowed[k] = wish;
    if ((s.v.coreFlags[k] & kCoreMoving) != 0) {
      s.v.allowed[k] = s.v.coreVm[k];
    } else if (wish != kNoVm && wish != s.v.coreVm[k] && !IsKnown(s, wish)) {
      s.v.allowed[k] = s.v.coreVm[k];
      s.v.edits[k] = kWhyUnknownVm;
      edited++;
    }
  }
  return edited;
}

inline void CountAll(TwinState& s, int32_t cores) {
  for (int32_t k = 0; k < cores; k++) {
    if (s.v.coreVm[k] != kNoVm) s.count[s.v.coreVm[k]] = 0;
    if (s.v.allowed[k] != kNoVm) s.count[s.v.allowed[k]] = 0;
  }
  for (int32_t k = 0; k < cores; k++)
    if (s.v.allowed[k] != kNoVm) s.count[s.v.allowed[k]]++;
}

inline void Undo(TwinState& s, int32_t k, int32_t reason) {
  if (s.v.allowed[k] != kNoVm) s.count[s.v.allowed[k]]--;
  s.v.allowed[k] = s.v.coreVm[k];
  if (s.v.coreVm[k] != kNoVm) s.count[s.v.coreVm[k]]++;
  s.v.edits[k] = reason;
}

inline int Pass(TwinState& s, int32_t cores) {
  int undone = 0;
  for (int32_t k = 0; k < cores; k++) {
    const int32_t owner = s.v.coreVm[k];
    const int32_t next = s.v.allowed[k];
    if (next == owner) continue;
    if (next != kNoVm && s.count[next] > s.v.limit[next]) {
      Undo(s, k, kWhyMaxCores);
      undone++;
      continue;
    }
    if (owner == kNoVm || !IsKnown(s, owner)) continue;
    const int32_t uses = s.v.vmMin[owner] < s.v.vmWants[owner] ? s.v.vmMin[owner] : s.v.vmWants[owner];
    if (s.count[owner] < uses) {
      Undo(s, k, kWhyKeepsGuarantee);
      undone++;
    }
  }
  return undone;
}

inline int Shed(TwinState& s, int32_t cores) {
  int shed = 0;
  for (int32_t k = 0; k < cores; k++) {
    const int32_t vm = s.v.allowed[k];
    if (vm == kNoVm || vm != s.v.coreVm[k] || !IsKnown(s, vm) || (s.v.coreFlags[k] & kCoreMoving) != 0)
      continue;
    if (s.count[vm] <= s.v.limit[vm]) continue;
    s.count[vm]--;
    s.v.allowed[k] = kNoVm;
    s.v.edits[k] = kWhyOverMax;
    shed++;
  }
  return shed;
}

inline int StandStill(TwinState& s, int32_t cores) {
  for (int32_t k = 0; k < cores; k++) {
    if (s.v.allowed[k] != s.v.coreVm[k]) s.v.edits[k] = kWhyReset;
    s.v.allowed[k] = s.v.coreVm[k];
  }
  CountAll(s, cores);
  return cores;
}

inline int32_t HeldBy(const TwinState& s, int32_t vm, int32_t cores) {
  int32_t held = 0;
  for (int32_t k = 0; k < cores; k++)
    held += s.v.allowed[k] == vm;
  return held;
}

inline int CheckHeirs(TwinState& s, int32_t cores) {
  int edited = 0;
  for (int32_t k = 0; k < cores; k++) {
    const int32_t vm = s.v.heir[k];
    if (vm == kNoVm) continue;
    const int32_t room = vm == s.v.coreVm[k] ? 1 : 0;
    if (IsKnown(s, vm) && HeldBy(s, vm, cores) < s.v.limit[vm] + room) continue;
    s.v.heir[k] = kNoVm;
    edited++;
  }
  return edited;
}

inline int RunGuard(TwinState& s) {
  const int32_t cores = s.v.head[kHeadCores];
  int edited = TakeWishes(s, cores);
  CountAll(s, cores);
  int undone = 0;
  for (int n = 0; n < kGuardPasses; n++) {
    undone = Pass(s, cores);
    edited += undone;
    if (undone == 0) break;
  }
  if (undone != 0) edited += StandStill(s, cores);
  edited += Shed(s, cores);
  edited += CheckHeirs(s, cores);
  return edited;
}

}  // namespace

#endif
