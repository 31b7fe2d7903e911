// SPDX-License-Identifier: Apache-2.0
// The guard as C: arbiter/guard/guard.ts and pace.ts. Included once for each CPU level.
#ifndef HYPERFLUX_NATIVE_TWIN_GUARD_H
#define HYPERFLUX_NATIVE_TWIN_GUARD_H

#include "twin_state.h"

namespace {

constexpr int kGuardPasses = 4;
enum { kPaceOn, kPaceVm, kPaceAll, kPaceBurst, kPaceBack };

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
    if (owner != kNoVm) s.count[owner] = s.keeps[owner] = 0;
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
  for (int32_t k = 0; k < cores; k++) {
    const int32_t next = s.v.allowed[k];
    if (next == kNoVm) continue;
    CountOne(s, next, over);
    if (next == s.v.coreVm[k]) s.keeps[next]++;
  }
}

inline void Undo(TwinState& s, int32_t k, int32_t reason, bool* over) {
  if (s.v.allowed[k] != kNoVm) s.count[s.v.allowed[k]]--;
  s.v.allowed[k] = s.v.coreVm[k];
  if (s.v.coreVm[k] != kNoVm) {
    CountOne(s, s.v.coreVm[k], over);
    s.keeps[s.v.coreVm[k]]++;
  }
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
    if (s.keeps[owner] < uses) {
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

inline int32_t BucketFull(const TwinState& s, int32_t until, int32_t between) {
  const uint32_t now = static_cast<uint32_t>(s.v.head[kHeadNow]);
  const int32_t left = static_cast<int32_t>(static_cast<uint32_t>(until) - now);
  return left < 0 || left > s.pace[kPaceBurst] + between ? 0 : left;
}

inline void Refill(const TwinState& s, int32_t* until, int32_t between, int32_t sign) {
  const uint32_t now = static_cast<uint32_t>(s.v.head[kHeadNow]);
  *until = static_cast<int32_t>(now + static_cast<uint32_t>(BucketFull(s, *until, between) + sign * between));
}

inline void Charge(TwinState& s, int32_t k, int32_t victim, int32_t sign) {
  Refill(s, &s.empty[victim], s.pace[kPaceVm], sign);
  Refill(s, &s.empty_of_all, s.pace[kPaceAll], sign);
  s.paced_from[k] = sign > 0 ? victim : kNoVm;
  s.paced_to[k] = s.v.allowed[k];
}

inline int Restrain(TwinState& s, int32_t cores, bool* over) {
  for (int32_t k = 0; k < cores; k++) {
    if (s.paced_from[k] == kNoVm) continue;
    if (s.v.coreVm[k] == s.paced_to[k] || (s.v.coreFlags[k] & kCoreMoving) != 0) {
      s.paced_from[k] = kNoVm;
    } else {
      Charge(s, k, s.paced_from[k], -1);
    }
  }
  int undone = 0;
  for (int32_t k = 0; k < cores; k++) {
    const int32_t victim = s.v.coreVm[k];
    const int32_t next = s.v.allowed[k];
    if (next == victim || victim == kNoVm) continue;
    if (next != kNoVm) {
      const int32_t uses = s.v.vmMin[next] < s.v.vmWants[next] ? s.v.vmMin[next] : s.v.vmWants[next];
      if (s.v.vmCores[next] < uses) continue;
    }
    const int32_t burst = s.pace[kPaceBurst];
    if (next != kNoVm && next == s.v.coreLast[k] && s.v.coreAge[k] < s.pace[kPaceBack]) {
      Undo(s, k, kWhySettling, over);
      undone++;
    } else if (BucketFull(s, s.empty[victim], s.pace[kPaceVm]) > burst ||
               BucketFull(s, s.empty_of_all, s.pace[kPaceAll]) > burst) {
      Undo(s, k, kWhyRate, over);
      undone++;
    } else {
      Charge(s, k, victim, 1);
    }
  }
  return undone;
}

inline void Uncharge(TwinState& s, int32_t cores) {
  for (int32_t k = 0; k < cores; k++)
    if (s.paced_from[k] != kNoVm && s.v.allowed[k] == s.v.coreVm[k]) Charge(s, k, s.paced_from[k], -1);
}

inline int StandStill(TwinState& s, int32_t cores, bool* over) {
  for (int32_t k = 0; k < cores; k++) {
    if (s.v.allowed[k] != s.v.coreVm[k]) s.v.edits[k] = kWhyReset;
    if (s.v.allowed[k] != kNoVm) s.count[s.v.allowed[k]] = 0;
    s.v.allowed[k] = s.v.coreVm[k];
  }
  for (int32_t k = 0; k < cores; k++)
    if (s.v.coreVm[k] != kNoVm) s.count[s.v.coreVm[k]] = s.keeps[s.v.coreVm[k]] = 0;
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
  if (s.pace[kPaceOn] != 0) edited += Restrain(s, cores, &over);
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
  if (s.pace[kPaceOn] != 0) Uncharge(s, cores);
  edited += CheckHeirs(s, cores);
  return edited;
}

}  // namespace

#endif
