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

// What is wished, with the count of every VM that this concerns made 0. Adds to *changes.
inline int TakeWishes(TwinState& s, int32_t cores, int* changes) {
  int edited = 0;
  for (int32_t k = 0; k < cores; k++) {
    const int32_t owner = s.v.coreVm[k];
    const int32_t wish = s.v.target[k];
    const int32_t inherits = s.v.heir[k];
    int32_t next = owner;
    int32_t edit = kWhyNone;
    if (wish != owner && (s.v.coreFlags[k] & kCoreMoving) == 0) {
      if (wish == kNoVm || IsKnown(s, wish)) {
        next = wish;
        ++*changes;
        if (wish != kNoVm) s.count[wish] = 0;
      } else {
        edit = kWhyUnknownVm;
        edited++;
      }
    }
    if (owner != kNoVm) s.count[owner] = 0;
    if (IsKnown(s, inherits)) s.count[inherits] = 0;
    s.v.allowed[k] = next;
    s.v.edits[k] = edit;
  }
  return edited;
}

inline void CountOne(TwinState& s, int32_t vm, bool* over) {
  if (++s.count[vm] > s.v.limit[vm]) *over = true;
}

inline void CountAll(TwinState& s, int32_t cores, bool* over) {
  *over = false;
  for (int32_t k = 0; k < cores; k++)
    if (s.v.allowed[k] != kNoVm) CountOne(s, s.v.allowed[k], over);
}

inline void Undo(TwinState& s, int32_t k, int32_t reason, bool* over) {
  if (s.v.allowed[k] != kNoVm) s.count[s.v.allowed[k]]--;
  s.v.allowed[k] = s.v.coreVm[k];
  if (s.v.coreVm[k] != kNoVm) CountOne(s, s.v.coreVm[k], over);
  s.v.edits[k] = reason;
}

inline int Pass(TwinState& s, int32_t cores, bool* over) {
  int undone = 0;
  for (int32_t k = 0; k < cores; k++) {
    const int32_t owner = s.v.coreVm[k];
    const int32_t next = s.v.allowed[k];
    if (next == owner) continue;
    if (next != kNoVm && s.count[next] > s.v.limit[next]) {
      Undo(s, k, kWhyMaxCores, over);
      undone++;
      continue;
    }
    if (owner == kNoVm || !IsKnown(s, owner)) continue;
    const int32_t uses = s.v.vmMin[owner] < s.v.vmWants[owner] ? s.v.vmMin[owner] : s.v.vmWants[owner];
    if (s.count[owner] < uses) {
      Undo(s, k, kWhyKeepsGuarantee, over);
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

inline int StandStill(TwinState& s, int32_t cores, bool* over) {
  for (int32_t k = 0; k < cores; k++) {
    if (s.v.allowed[k] != s.v.coreVm[k]) s.v.edits[k] = kWhyReset;
    if (s.v.allowed[k] != kNoVm) s.count[s.v.allowed[k]] = 0;
    s.v.allowed[k] = s.v.coreVm[k];
  }
  for (int32_t k = 0; k < cores; k++)
    if (s.v.coreVm[k] != kNoVm) s.count[s.v.coreVm[k]] = 0;
  CountAll(s, cores, over);
  return cores;
}

inline int CheckHeirs(TwinState& s, int32_t cores) {
  int edited = 0;
  for (int32_t k = 0; k < cores; k++) {
    const int32_t vm = s.v.heir[k];
    if (vm == kNoVm) continue;
    const int32_t room = vm == s.v.coreVm[k] ? 1 : 0;
    if (IsKnown(s, vm) && s.count[vm] < s.v.limit[vm] + room) continue;
    s.v.heir[k] = kNoVm;
    edited++;
  }
  return edited;
}

inline int RunGuard(TwinState& s) {
  const int32_t cores = s.v.head[kHeadCores];
  int changes = 0;
  bool over = false;
  int edited = TakeWishes(s, cores, &changes);
  CountAll(s, cores, &over);
  if (changes != 0) {
    int undone = 0;
    for (int n = 0; n < kGuardPasses; n++) {
      undone = Pass(s, cores, &over);
      edited += undone;
      if (undone == 0) break;
    }
    if (undone != 0) edited += StandStill(s, cores, &over);
  }
  if (over) edited += Shed(s, cores);
  edited += CheckHeirs(s, cores);
  return edited;
}

}  // namespace

#endif
