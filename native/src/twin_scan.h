// SPDX-License-Identifier: Apache-2.0
// Reading VMs and cores as C: arbiter/loop/scan.ts and cores.ts. Included once for each CPU level.
#ifndef HYPERFLUX_NATIVE_TWIN_SCAN_H
#define HYPERFLUX_NATIVE_TWIN_SCAN_H

#include "twin_state.h"

namespace {

constexpr int kVcpuWords = FLUX_VCPU_BYTES / 4;
static_assert(FLUX_TVCPU_BYTES == FLUX_VCPU_BYTES, "one stride for the table and the control page");

inline bool IsHandle(int32_t handle) { return handle >= 1 && handle <= kHandles; }
inline int32_t SlotOf(int32_t handle) { return static_cast<uint32_t>(handle - 1) / FLUX_MAX_VCPUS; }
inline int32_t VcpuOf(int32_t handle) { return static_cast<uint32_t>(handle - 1) % FLUX_MAX_VCPUS; }
inline int32_t OwnerOf(int32_t low) { return low & 0xffff; }
inline int32_t SuccessorOf(int32_t low) { return static_cast<uint32_t>(low) >> 16; }
// Stamps wrap, so differences are taken without signs and then looked at with one.
inline int32_t Since(int32_t later, int32_t earlier) {
  return static_cast<int32_t>(static_cast<uint32_t>(later) - static_cast<uint32_t>(earlier));
}

inline int32_t GuestWord(int32_t slot, int32_t vcpu, size_t offset) {
  return (slot * FLUX_HOT_BYTES + FLUX_VCPUS_OFFSET + vcpu * FLUX_VCPU_BYTES +
          static_cast<int32_t>(offset)) >>
         2;
}
inline int32_t TableVcpuWord(int32_t slot, int32_t vcpu, size_t offset) {
  return (FLUX_TVCPUS_OFFSET + slot * FLUX_TVCPUS_BYTES + vcpu * FLUX_TVCPU_BYTES +
          static_cast<int32_t>(offset)) >>
         2;
}
#define GUEST(field)   offsetof(flux_guest_vcpu, field)
#define SUMMARY(field) (offsetof(flux_summary, field) / 4)
#define VCPU(field)    (offsetof(flux_vcpu, field) / 4)
#define VM(field)      (offsetof(flux_vm, field) / 4)
#define CORE(field)    (offsetof(flux_core, field) / 4)

struct Oldest {
  int32_t stamp;
  int32_t has;
  void Take(int32_t other) {
    if (has == 0 || Since(other, stamp) < 0) stamp = other;
    has = 1;
  }
};

// Returns whether the VM has to be read again in any case.
inline bool ReadQueues(TwinState& s, int32_t slot) {
  const int32_t* guest = s.stage.arena + GuestWord(slot, 0, 0);
  const int32_t* host = s.stage.table + TableVcpuWord(slot, 0, 0);
  int32_t load = 0;
  int32_t held = 0;
  int32_t forced = 0;
  int32_t astir = 0;
  Oldest oldest = {0, 0};
  for (int32_t v = 0; v < s.vm_vcpus[slot]; v++, guest += kVcpuWords, host += kVcpuWords) {
    const uint32_t queued = static_cast<uint32_t>(Peek(guest + GUEST(runq_len) / 4));
    if (queued != 0) {
      load += queued < kMaxRunq ? static_cast<int32_t>(queued) : kMaxRunq;
      oldest.Take(Peek(guest + GUEST(oldest) / 4));
    }
    const int32_t state = Peek(host) & 0xff;
    astir += state >= FLUX_VCPU_GRANTING && state <= FLUX_VCPU_UNMANAGED;
    if (state != FLUX_VCPU_PARKED) continue;
    const int32_t context = Peek(host + VCPU(held));
    if (context != FLUX_HELD_HELD && context != FLUX_HELD_FORCED) continue;
    held++;
    if (context == FLUX_HELD_FORCED) forced = kVmForcedHeld;
    const uint64_t parked = static_cast<uint32_t>(Peek(host + VCPU(t_parked))) |
                            static_cast<uint64_t>(static_cast<uint32_t>(Peek(host + VCPU(t_parked) + 1)))
                                << 32;
    oldest.Take(static_cast<int32_t>(parked >> s.stage.shift));
  }
  s.vm_load[slot] = load;
  s.vm_held[slot] = held;
  s.vm_has_oldest[slot] = oldest.has;
  s.vm_oldest[slot] = oldest.stamp;
  s.v.vmFlags[slot] = (s.v.vmFlags[slot] & kVmBooting) | forced;
  return astir > s.vm_span[slot];
}

inline void ReadSummary(TwinState& s, int32_t slot, const int32_t* summary) {
  const int32_t flags = Peek(summary + SUMMARY(flags));
  s.vm_has_timer[slot] = flags & FLUX_SUMMARY_TIMER;
  s.vm_timer[slot] = Peek(summary + SUMMARY(next_timer));
  if ((flags & FLUX_SUMMARY_BOOTED) != 0) s.v.vmFlags[slot] &= ~kVmBooting;
}

inline int32_t AgeOf(TwinState& s, int32_t slot, int32_t stamp, int32_t now) {
  if (s.vm_aged_stamp[slot] != stamp) {
    s.vm_aged_stamp[slot] = stamp;
    s.vm_aged[slot] = 0;
  }
  if (s.vm_aged[slot] != 0) return kAgeMax;
  const int32_t age = Since(now, stamp);
  if (age < 0) return 0;
  if (age < kAgeMax) return age;
  s.vm_aged[slot] = 1;
  return kAgeMax;
}

inline int32_t AwayOf(TwinState& s, int32_t slot, int32_t now) {
  if (s.v.vmCores[slot] != 0) return 0;
  const int32_t age = Since(now, s.vm_left[slot]);
  if (s.vm_left_old[slot] == 0 && age >= 0 && age < kAgeMax) return age;
  s.vm_left_old[slot] = 1;
  return kAgeMax;
}

inline void See(TwinState& s, int32_t i, int32_t now) {
  const int32_t slot = s.d_slot[i];
  const int32_t* vm = s.stage.table + s.d_vm[i];
  if (Peek(vm + VM(state)) != FLUX_VM_LIVE) {
    s.v.vmWants[slot] = 0;
    s.v.vmDelay[slot] = 0;
    s.d_busy[i] = 0;
    return;
  }
  const int32_t* summary = s.stage.arena + s.d_summary[i];
  const int32_t seq = Peek(summary);
  bool again = false;
  if (seq != s.d_seq[i] || s.d_busy[i] > 1 || s.vm_held[slot] != 0) {
    s.d_seq[i] = seq;
    ReadSummary(s, slot, summary);
    again = ReadQueues(s, slot);
  }
  uint32_t depth = static_cast<uint32_t>(Peek(vm + VM(ring_depth)));
  if (depth > FLUX_RING_ENTRIES) depth = FLUX_RING_ENTRIES;
  int32_t load = s.vm_load[slot] + s.vm_held[slot] + static_cast<int32_t>(depth);
  Oldest oldest = {s.vm_oldest[slot], s.vm_has_oldest[slot]};
  if (depth != 0) oldest.Take(Peek(vm + VM(ring_oldest)));
  if (s.vm_has_timer[slot] != 0 && Since(now, s.vm_timer[slot]) >= 0) {
    load++;
    oldest.Take(s.vm_timer[slot]);
  }
  s.v.vmDelay[slot] = oldest.has == 0 ? 0 : AgeOf(s, slot, oldest.stamp, now);
  s.v.vmAway[slot] = AwayOf(s, slot, now);
  int32_t wants = s.vm_busy_cores[slot] + load;
  const int32_t booting = s.v.vmFlags[slot] & kVmBooting;
  if (booting != 0 && wants == 0) wants = 1;
  s.v.vmWants[slot] = wants < s.v.limit[slot] ? wants : s.v.limit[slot];
  const bool busy = load != 0 || s.vm_has_timer[slot] != 0 || booting != 0;
  s.d_busy[i] = again ? 2 : busy ? 1 : 0;
  s.v.hot[s.v.head[kHeadHot]++] = slot;
}

// Not 0 if VM i of the dense list may have something to say. Loads are plain, or nothing could be vectorised;
// the barrier at the turn's start keeps them inside the turn.
inline int32_t Stirred(const TwinState& s, int32_t i) {
  return (s.stage.arena[s.d_summary[i]] ^ s.d_seq[i]) |
         s.stage.table[s.d_vm[i] + static_cast<int32_t>(VM(ring_depth))] | s.d_busy[i];
}

inline void ScanVms(TwinState& s, int32_t now) {
  constexpr int32_t kWidth = 16;
  const int32_t active = s.active;
  s.v.head[kHeadHot] = 0;
  int32_t i = 0;
  for (; i + kWidth <= active; i += kWidth) {
    // One branch says "nothing" for all sixteen; the compiler makes gathers of this where they pay.
    int32_t any = 0;
    int32_t stirred[kWidth];
    for (int32_t j = 0; j < kWidth; j++)
      any |= stirred[j] = Stirred(s, i + j);
    if (__builtin_expect(any == 0, 1)) continue;
    for (int32_t j = 0; j < kWidth; j++)
      if (stirred[j] != 0) See(s, i + j, now);
  }
  for (; i < active; i++)
    if (Stirred(s, i) != 0) See(s, i, now);
}

inline void Touch(TwinState& s, int32_t slot) {
  const int32_t i = s.dense[slot];
  if (i >= 0) s.d_busy[i] = 2;
}

inline void SetBusy(TwinState& s, int32_t k, int32_t slot, int32_t busy) {
  if (s.core_busy[k] == busy) return;
  s.core_busy[k] = busy;
  s.vm_busy_cores[slot] += busy == 0 ? -1 : 1;
}

inline int32_t SlotOfHandle(int32_t handle) { return IsHandle(handle) ? SlotOf(handle) : kNoVm; }

inline int32_t ComingOwner(int32_t low) {
  const int32_t successor = SuccessorOf(low);
  if (successor == 0) return OwnerOf(low);
  return successor == FLUX_HANDLE_IDLE ? 0 : successor;
}

// Counts core k for (or, with -1, no longer for) its owner and for who is getting it.
inline void Span(TwinState& s, int32_t k, int32_t by) {
  if (s.core_owner[k] != kNoVm) s.vm_span[s.core_owner[k]] += by;
  if (s.v.coreVm[k] != kNoVm && s.v.coreVm[k] != s.core_owner[k]) s.vm_span[s.v.coreVm[k]] += by;
}

__attribute__((noinline)) void CoreChanged(TwinState& s, int32_t k, int32_t low, int32_t now) {
  const int32_t was = s.core_low[k];
  const int32_t owner = OwnerOf(low);
  if (s.v.coreVm[k] != kNoVm) SetBusy(s, k, s.v.coreVm[k], 0);
  Span(s, k, -1);
  if (OwnerOf(was) != owner) {
    s.core_since[k] = now;
    s.core_old[k] = 0;
    if (IsHandle(OwnerOf(was))) Touch(s, SlotOf(OwnerOf(was)));
  }
  if (IsHandle(owner)) Touch(s, SlotOf(owner));
  const bool moving = SuccessorOf(low) != 0;
  const int32_t vm = SlotOfHandle(ComingOwner(low));
  if (vm != s.v.coreVm[k]) {
    if (s.v.coreVm[k] != kNoVm) {
      if (--s.v.vmCores[s.v.coreVm[k]] == 0) {
        s.vm_left[s.v.coreVm[k]] = now;
        s.vm_left_old[s.v.coreVm[k]] = 0;
      }
      Touch(s, s.v.coreVm[k]);
      s.v.coreLast[k] = s.v.coreVm[k];
    }
    if (vm != kNoVm) {
      s.v.vmCores[vm]++;
      Touch(s, vm);
    }
    s.v.coreVm[k] = vm;
  }
  s.core_owner[k] = SlotOfHandle(owner);
  Span(s, k, 1);
  s.v.coreFlags[k] = moving ? kCoreMoving : 0;
  const bool watch = !moving && IsHandle(owner) && s.dense[SlotOf(owner)] >= 0;
  s.core_guest[k] = watch ? GuestWord(SlotOf(owner), VcpuOf(owner), GUEST(state)) : -1;
  s.core_low[k] = low;
  s.events++;
}

inline void ScanCores(TwinState& s, int32_t now) {
  s.events = 0;
  for (int32_t k = 0; k < s.cores; k++) {
    const int32_t* core = s.stage.table + s.core_at[k];
    // Owner, successor and generation are one word, so one load; the generation tells of a change there and
    // back.
    const uint64_t word = __atomic_load_n(reinterpret_cast<const uint64_t*>(core), __ATOMIC_RELAXED);
    const int32_t low = static_cast<int32_t>(word);
    const int32_t generation = static_cast<int32_t>(word >> 32);
    if (__builtin_expect(low != s.core_low[k] || generation != s.core_gen[k], 0)) {
      s.core_gen[k] = generation;
      CoreChanged(s, k, low, now);
    }
    if (s.core_old[k] == 0) {
      const int32_t age = Since(now, s.core_since[k]);
      const bool old = age >= kAgeMax || age < 0;
      s.v.coreAge[k] = old ? kAgeMax : age;
      s.core_old[k] = old;
    }
    if (s.core_guest[k] < 0) continue;
    const int32_t state = Peek(s.stage.arena + s.core_guest[k]);
    s.v.coreFlags[k] = state == FLUX_GUEST_IDLE ? kCoreIdle : 0;
    SetBusy(s, k, s.v.coreVm[k], state == FLUX_GUEST_RUNNING ? 1 : 0);
  }
}

}  // namespace

#endif
