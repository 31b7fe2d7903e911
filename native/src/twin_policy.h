// SPDX-License-Identifier: Apache-2.0
// The policy `delay` with its heirs as C: arbiter/policy/builtin/delay.ts and
// arbiter/policy/kit/heirs.ts. Included once for each CPU level.
#ifndef HYPERFLUX_NATIVE_TWIN_POLICY_H
#define HYPERFLUX_NATIVE_TWIN_POLICY_H

#include "twin_state.h"

namespace {

enum { kThreshold, kTenure, kQuantum, kStep };
enum { kBeDelay, kBeStarved, kLcDelay, kLcStarved, kBeGuarantee, kLcGuarantee, kRights };
constexpr int kRounds = 4;
constexpr int kCandidates = 4;

struct Candidate {
  int32_t slot;
  int32_t right;
  int32_t room;
};

struct Candidates {
  Candidate list[kCandidates];
  int count = 0;
};

inline int RightOf(const TwinState& s, int32_t vm) {
  const int32_t cores = s.have[vm];
  if (s.v.vmWants[vm] <= cores || cores >= s.v.vmMax[vm]) return -1;
  const bool lc = s.v.vmClass[vm] == FLUX_CLASS_LC;
  if (cores < s.v.vmMin[vm]) return lc ? kLcGuarantee : kBeGuarantee;
  if (cores == 0) return lc ? kLcStarved : kBeStarved;
  if (s.v.vmDelay[vm] >= s.times[kThreshold]) return lc ? kLcDelay : kBeDelay;
  return -1;
}

inline int32_t IdleCore(const TwinState& s, int32_t vm) {
  if (s.idle == 0) return -1;
  int32_t found = -1;
  const int32_t cores = s.v.head[kHeadCores];
  for (int32_t k = 0; k < cores; k++) {
    if (s.v.target[k] != kNoVm || s.v.coreVm[k] != kNoVm || (s.v.coreFlags[k] & kCoreMoving) != 0) continue;
    if (s.v.coreLast[k] == vm) return k;
    if (found < 0) found = k;
  }
  return found;
}

inline int32_t Taking(const TwinState& s, int32_t vm, int right, int32_t k) {
  const int32_t victim = s.v.coreVm[k];
  if (victim == kNoVm || victim == vm || s.v.target[k] != victim || (s.v.coreFlags[k] & kCoreMoving) != 0)
    return -1;
  const bool higher = s.v.vmClass[vm] > s.v.vmClass[victim];
  const bool unused = (s.v.coreFlags[k] & kCoreIdle) != 0 && s.v.vmWants[victim] < s.have[victim];
  if (unused && s.v.vmClass[vm] >= s.v.vmClass[victim]) return 1 << 20;
  const int32_t burst = s.have[victim] - s.v.vmMin[victim];
  if (burst <= 0) return -1;
  const int32_t score = (higher ? 1 << 16 : 0) + (burst << 4);
  if (right >= kBeGuarantee) return score;
  if (s.v.coreAge[k] < s.times[kTenure]) return -1;
  if (higher) return score;
  if (s.v.vmClass[vm] < s.v.vmClass[victim]) return -1;
  if (burst > s.have[vm] - s.v.vmMin[vm] + 1) return score;
  return s.have[vm] == 0 && s.v.coreAge[k] >= s.times[kQuantum] ? score : -1;
}

inline int32_t CoreToTake(const TwinState& s, int32_t vm, int right) {
  int32_t found = -1;
  int32_t score = -1;
  const int32_t cores = s.v.head[kHeadCores];
  for (int32_t k = 0; k < cores; k++) {
    const int32_t suits = Taking(s, vm, right, k);
    if (suits > score) {
      score = suits;
      found = k;
    }
  }
  return found;
}

inline void Give(TwinState& s, int32_t vm, int32_t k, int32_t reason) {
  const int32_t victim = s.v.target[k];
  if (victim == kNoVm) {
    s.idle--;
  } else {
    s.have[victim]--;
  }
  s.have[vm]++;
  s.v.target[k] = vm;
  s.v.why[k] = reason;
}

inline int32_t ReasonOf(const TwinState& s, int32_t vm, int right) {
  if ((s.v.vmFlags[vm] & kVmBooting) != 0) return kWhyBoot;
  if (right >= kBeGuarantee) return kWhyGuarantee;
  return right == kLcStarved || right == kBeStarved ? kWhyStarved : kWhyDelay;
}

inline int Serve(TwinState& s, int32_t vm, int right) {
  int32_t k = IdleCore(s, vm);
  if (k >= 0) {
    const int32_t reason = ReasonOf(s, vm, right);
    Give(s, vm, k, reason == kWhyDelay ? kWhyIdleCore : reason);
    return 1;
  }
  const int32_t now = s.v.head[kHeadNow];
  const bool first = s.have[vm] == 0 || right >= kBeGuarantee;
  if (!first && static_cast<uint32_t>(now) - static_cast<uint32_t>(s.last_take[vm]) <
                    static_cast<uint32_t>(s.times[kStep]))
    return 0;
  k = CoreToTake(s, vm, right);
  if (k < 0) return 0;
  const bool same = s.v.vmClass[s.v.coreVm[k]] == s.v.vmClass[vm] && right < kBeGuarantee;
  Give(s, vm, k, same ? kWhyShare : ReasonOf(s, vm, right));
  s.last_take[vm] = now;
  return 1;
}

inline int32_t Urgency(const TwinState& s, int32_t vm) {
  return s.have[vm] == 0 ? s.v.vmAway[vm] : s.v.vmDelay[vm];
}

// Returns whether another round could serve anybody.
inline bool Round(TwinState& s) {
  int32_t best[kRights];
  for (int32_t& vm : best)
    vm = kNoVm;
  const int32_t count = s.v.head[kHeadHot];
  int claims = 0;
  for (int32_t i = 0; i < count; i++) {
    const int32_t vm = s.v.hot[i];
    const int right = RightOf(s, vm);
    if (right < 0) continue;
    claims++;
    const int32_t rival = best[right];
    if (rival == kNoVm || Urgency(s, vm) > Urgency(s, rival)) best[right] = vm;
  }
  if (claims == 0) return false;
  int served = 0;
  int32_t free = s.idle;
  for (int right = kRights - 1; right >= 0; right--) {
    const int32_t vm = best[right];
    if (vm == kNoVm || Serve(s, vm, right) == 0) continue;
    served++;
    // It may have a claim to another core, and whoever lost one to it may have one now.
    if (s.idle == free || RightOf(s, vm) >= 0) claims++;
    free = s.idle;
  }
  return served != 0 && claims > served;
}

inline int32_t HeirRight(const TwinState& s, int32_t vm) {
  return (s.v.vmClass[vm] == FLUX_CLASS_LC ? 4 : 0) + (s.have[vm] < s.v.vmMin[vm] ? 2 : 0) +
         (s.have[vm] == 0 ? 1 : 0);
}

inline void Insert(const TwinState& s, Candidates& found, int32_t vm) {
  Candidate* c = found.list;
  const int32_t right = HeirRight(s, vm);
  const auto before = [&](int i) {
    return right != c[i].right ? right > c[i].right : Urgency(s, vm) > Urgency(s, c[i].slot);
  };
  int i = found.count;
  if (i == kCandidates) {
    if (!before(kCandidates - 1)) return;
    i = kCandidates - 1;
  } else {
    found.count++;
  }
  for (; i > 0 && before(i - 1); i--)
    c[i] = c[i - 1];
  const int32_t most = s.v.vmWants[vm] < s.v.vmMax[vm] ? s.v.vmWants[vm] : s.v.vmMax[vm];
  c[i] = {vm, right, most - s.have[vm]};
}

inline bool MayInherit(const TwinState& s, int32_t vm, int32_t k) {
  return vm != s.v.target[k] || (s.v.vmFlags[vm] & kVmForcedHeld) != 0;
}

inline int32_t HeirFor(const TwinState& s, Candidates& found, int32_t k) {
  Candidate* c = found.list;
  for (int i = 0; i < found.count; i++) {
    if (c[i].slot == s.v.coreHeir[k] && c[i].right == c[0].right && c[i].room > 0 &&
        MayInherit(s, c[i].slot, k)) {
      c[i].room--;
      return c[i].slot;
    }
  }
  int32_t fallback = kNoVm;
  for (int i = 0; i < found.count; i++) {
    if (!MayInherit(s, c[i].slot, k)) continue;
    if (c[i].room > 0) {
      c[i].room--;
      return c[i].slot;
    }
    if (fallback == kNoVm) fallback = c[i].slot;
  }
  return fallback;
}

inline void ChooseHeirs(TwinState& s) {
  Candidates found;
  const int32_t hot = s.v.head[kHeadHot];
  for (int32_t i = 0; i < hot; i++) {
    const int32_t vm = s.v.hot[i];
    if (s.v.vmWants[vm] > s.have[vm] && s.have[vm] < s.v.vmMax[vm]) Insert(s, found, vm);
  }
  const int32_t cores = s.v.head[kHeadCores];
  for (int32_t k = 0; k < cores; k++)
    s.v.heir[k] = HeirFor(s, found, k);
}

inline void Decide(TwinState& s) {
  const int32_t cores = s.v.head[kHeadCores];
  s.idle = 0;
  for (int32_t k = 0; k < cores; k++) {
    const int32_t vm = s.v.coreVm[k];
    if (vm != kNoVm) {
      s.have[vm] = s.v.vmCores[vm];
    } else {
      s.idle += s.v.target[k] == kNoVm && (s.v.coreFlags[k] & kCoreMoving) == 0;
    }
  }
  const int32_t hot = s.v.head[kHeadHot];
  for (int32_t i = 0; i < hot; i++)
    s.have[s.v.hot[i]] = s.v.vmCores[s.v.hot[i]];
  for (int n = 0; n < kRounds; n++)
    if (!Round(s)) break;
  ChooseHeirs(s);
}

}  // namespace

#endif
