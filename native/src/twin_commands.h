// SPDX-License-Identifier: Apache-2.0
// From decisions to commands as C: arbiter/loop/place.ts, records.ts and commands.ts. Included once for each
// CPU level.
#ifndef HYPERFLUX_NATIVE_TWIN_COMMANDS_H
#define HYPERFLUX_NATIVE_TWIN_COMMANDS_H

#include <errno.h>

#include "twin_scan.h"
#include "twin_stage.h"

namespace {

// What counts more than what when a vCPU is chosen; a queue's length fills the bits between.
constexpr int32_t kForcedFirst = 1 << 27;
constexpr int32_t kHeldFirst = 1 << 26;
constexpr int32_t kShared = 1 << 25;
constexpr int kQueueShift = 2;
constexpr int32_t kSameCore = 2;

inline bool Parked(const TwinState& s, int32_t handle) {
  return (Peek(s.stage.table + TableVcpuWord(SlotOf(handle), VcpuOf(handle), 0)) & 0xff) == FLUX_VCPU_PARKED;
}

inline void Mark(TwinState& s, int32_t handle) {
  if (s.heir_mark[handle] == s.decision) return;
  s.heir_mark[handle] = s.decision;
  const int32_t slot = SlotOf(handle);
  if (s.reach_mark[slot] != s.decision) {
    s.reach_mark[slot] = s.decision;
    s.reach[slot] = 0;
  }
  s.reach[slot]++;
}

inline int32_t BestVcpu(TwinState& s, int32_t slot, int32_t core, bool for_heir) {
  const int32_t reached = s.vm_span[slot] + (s.reach_mark[slot] == s.decision ? s.reach[slot] : 0);
  const bool anyone = reached < s.v.limit[slot];
  const int32_t* guest = s.stage.arena + GuestWord(slot, 0, GUEST(runq_len));
  const int32_t* host = s.stage.table + TableVcpuWord(slot, 0, 0);
  int32_t found = 0;
  int32_t most = -1;
  int32_t handle = slot * FLUX_MAX_VCPUS + 1;
  for (int32_t v = 0; v < s.vm_vcpus[slot]; v++, handle++, guest += kVcpuWords, host += kVcpuWords) {
    const bool within = s.heir_mark[handle] == s.decision;
    if ((Peek(host) & 0xff) != FLUX_VCPU_PARKED || s.taken[handle] == s.decision || !(anyone || within))
      continue;
    const uint32_t queued = static_cast<uint32_t>(Peek(guest));
    const int32_t held = Peek(host + VCPU(held));
    int32_t score = kShared + (static_cast<int32_t>(queued < kMaxRunq ? queued : kMaxRunq) << kQueueShift);
    if (held == FLUX_HELD_FORCED) {
      score += kForcedFirst;
    } else if (held == FLUX_HELD_HELD) {
      score += kHeldFirst;
    }
    if (Peek(host + VCPU(pinned)) == core) score += kSameCore;
    if (for_heir && within) score -= kShared;
    if (score > most) {
      most = score;
      found = handle;
    }
  }
  if (found != 0) Mark(s, found);
  return found;
}

inline int32_t WriteRecord(TwinState& s, int32_t k, int32_t edit, int32_t op, int32_t from, int32_t to) {
  const uint32_t number = s.record_count;
  const int32_t at = static_cast<int32_t>(number % kRecords) * kRecordWords;
  int32_t* record = s.records + at;
  const int32_t asked = s.v.target[k];
  const bool known = static_cast<uint32_t>(asked) < FLUX_MAX_VMS;
  __atomic_store_n(record, 0, __ATOMIC_RELAXED);
  // Whoever reads half a new record must see that its number is gone; on x86 this only holds the compiler
  // back.
  __atomic_thread_fence(__ATOMIC_RELEASE);
  record[1] = static_cast<int32_t>(s.stage.control->tsc_lo);
  record[2] = static_cast<int32_t>(s.stage.control->tsc_hi);
  record[3] = s.core_id[k];
  record[4] = s.v.coreVm[k];
  record[5] = asked;
  record[6] = s.v.allowed[k];
  record[7] = from;
  record[8] = to;
  record[9] = op;
  record[10] = 0;
  record[11] = s.v.why[k];
  record[12] = edit;
  record[13] = known ? s.v.vmDelay[asked] : 0;
  record[14] = known ? s.v.vmWants[asked] : 0;
  record[15] = known ? s.v.vmCores[asked] : 0;
  // Release: whoever sees the number sees the record.
  __atomic_store_n(record, static_cast<int32_t>(number + 1), __ATOMIC_RELEASE);
  s.record_count = number + 1;
  return at;
}

inline void Note(TwinState& s, int32_t k, int32_t edit) {
  const int32_t note =
      static_cast<int32_t>(static_cast<uint32_t>(edit) << 16) | ((s.v.target[k] + 1) & 0xffff);
  if (s.core_noted[k] == note) return;
  s.core_noted[k] = note;
  if (s.v.target[k] != kNoVm || edit != kWhyNone) WriteRecord(s, k, edit, 0, 0, 0);
}

inline int32_t Put(TwinState& s, int32_t count, int32_t k, int32_t op, int32_t from, int32_t to) {
  int32_t* command = CommandAt(s.batch, count);
  command[FLUX_CMD_OP] = op;
  command[FLUX_CMD_CORE] = s.core_id[k];
  command[FLUX_CMD_FROM] = from;
  command[FLUX_CMD_TO] = to;
  command[FLUX_CMD_FLAGS] = 0;
  command[FLUX_CMD_TSC_LO] = static_cast<int32_t>(s.stage.control->tsc_lo);
  command[FLUX_CMD_TSC_HI] = static_cast<int32_t>(s.stage.control->tsc_hi);
  s.record_of[count] = op == FLUX_OP_HEIR ? -1 : WriteRecord(s, k, s.v.edits[k], op, from, to);
  return count + 1;
}

inline int32_t PutCore(TwinState& s, int32_t count, int32_t k) {
  const int32_t next = s.v.allowed[k];
  if ((s.v.coreFlags[k] & kCoreMoving) != 0) {
    if (s.v.target[k] != s.v.coreVm[k]) Note(s, k, kWhyPending);
    return count;
  }
  if (next == s.v.coreVm[k]) {
    if (s.v.edits[k] != kWhyNone) {
      Note(s, k, s.v.edits[k]);
    } else {
      s.core_noted[k] = 0;
    }
    return count;
  }
  const int32_t owner = OwnerOf(s.core_low[k]);
  if (next == kNoVm) return Put(s, count, k, FLUX_OP_PARK, owner, 0);
  const int32_t to = BestVcpu(s, next, s.core_id[k], false);
  if (to == 0) {
    Note(s, k, kWhyNoVcpu);
    return count;
  }
  s.taken[to] = s.decision;
  return Put(s, count, k, owner == 0 ? FLUX_OP_GRANT : FLUX_OP_MOVE, owner, to);
}

inline int32_t PutHeir(TwinState& s, int32_t count, int32_t k) {
  const int32_t present = Peek(s.stage.table + s.core_at[k] + CORE(heir));
  const int32_t wanted = s.v.heir[k];
  if (wanted == kNoVm) return present != 0 ? Put(s, count, k, FLUX_OP_HEIR, 0, 0) : count;
  if (IsHandle(present) && SlotOf(present) == wanted && Parked(s, present) && s.taken[present] != s.decision)
    return count;
  const int32_t to = BestVcpu(s, wanted, s.core_id[k], true);
  return to != present ? Put(s, count, k, FLUX_OP_HEIR, 0, to) : count;
}

inline void Forget(TwinState& s, int32_t handle) {
  if (!IsHandle(handle)) return;
  s.v.known[SlotOf(handle)] = 0;
  s.v.limit[SlotOf(handle)] = 0;
}

__attribute__((noinline)) void CommandFailed(TwinState& s, int32_t i, int32_t result) {
  const int32_t to = CommandAt(s.batch, i)[FLUX_CMD_TO];
  s.counters.failed++;
  switch (result) {
    case -EBUSY:
      s.counters.busy++;
      break;
    case -EAGAIN:
      s.counters.owner_changed++;
      break;
    case -EALREADY:
      s.counters.in_flight++;
      break;
    case -ESTALE:
      s.stale = 1;
      break;
    case -ESRCH:
      s.counters.dead++;
      Forget(s, to);
      break;
    case -ENODEV:
      s.counters.offline++;
      break;
    default:
      s.counters.invalid++;
      Forget(s, to);
  }
}

inline void CommandDone(TwinState& s, int32_t op) {
  if (op == FLUX_OP_HEIR) {
    s.counters.heirs++;
  } else if (op == FLUX_OP_GRANT) {
    s.counters.grants++;
  } else {
    (op == FLUX_OP_MOVE ? s.counters.moves : s.counters.parks)++;
    s.in_flight = 1;
  }
}

inline void CarryOut(TwinState& s) {
  s.decision++;
  for (int32_t k = 0; k < s.cores; k++) {
    const int32_t handle = Peek(s.stage.table + s.core_at[k] + CORE(heir));
    if (IsHandle(handle) && Parked(s, handle)) Mark(s, handle);
  }
  int32_t count = 0;
  for (int32_t k = 0; k < s.cores; k++)
    count = PutCore(s, count, k);
  for (int32_t k = 0; k < s.cores; k++)
    count = PutHeir(s, count, k);
  if (count == 0) return;
  s.counters.commands += static_cast<uint32_t>(count);
  StageSubmit(s.stage, s.batch, count);
  for (int32_t i = 0; i < count; i++) {
    const int32_t* command = CommandAt(s.batch, i);
    const int32_t result = command[FLUX_CMD_RESULT];
    if (s.record_of[i] >= 0) s.records[s.record_of[i] + 10] = result;
    if (result == 0) {
      CommandDone(s, command[FLUX_CMD_OP]);
    } else {
      CommandFailed(s, i, result);
    }
  }
}

}  // namespace

#endif
