// SPDX-License-Identifier: Apache-2.0
// What stands in for the world in `hyperflux bench loop`: guests whose figures change in a fixed pattern, a
// clock that notes how long each turn took, and a bridge that carries no core commands out. The TypeScript
// loop calls these through the addon as it would call the real ones, the twin directly.
#ifndef HYPERFLUX_NATIVE_TWIN_STAGE_H
#define HYPERFLUX_NATIVE_TWIN_STAGE_H

#include <errno.h>

#include "twin_state.h"

namespace {

// Guest lines are written by the guest alone; here the stage is the guest. Pairs with the loops' plain loads.
inline void Poke(int32_t* word, int32_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }

inline int32_t* SummaryLine(int32_t* arena, uint32_t slot) {
  return arena + (slot * FLUX_HOT_BYTES + slot % FLUX_SUMMARY_LINES * FLUX_LINE) / 4;
}

// The queue of a VM's first vCPU becomes this long; its oldest uThread is ready from `stamp` on.
inline void SetQueue(int32_t* arena, uint32_t slot, int32_t length, int32_t stamp) {
  int32_t* guest = arena + (slot * FLUX_HOT_BYTES + FLUX_VCPUS_OFFSET) / 4;
  int32_t* summary = SummaryLine(arena, slot);
  Poke(guest + offsetof(flux_guest_vcpu, oldest) / 4, stamp);
  Poke(guest + offsetof(flux_guest_vcpu, runq_len) / 4, length);
  // Last: x86 keeps stores in order, so whoever sees the number sees the queue. The compiler must keep it,
  // too.
  __atomic_store_n(summary, *summary + 1, __ATOMIC_RELEASE);
}

// Before each turn `changing` VMs get work: always the same ones, or the next ones, and then those of the
// turn before lose theirs.
inline void PlayGuests(const TwinStage& stage, uint64_t now) {
  TwinControl* c = stage.control;
  const int32_t stamp = static_cast<int32_t>((now >> stage.shift) - c->age);
  const uint32_t vms = c->vms;
  uint32_t slot = c->cursor;
  if (c->rotate != 0) {
    for (uint32_t i = 0; i < c->changing; i++) {
      SetQueue(stage.arena, slot, 0, 0);
      if (++slot == vms) slot = 0;
    }
    c->cursor = slot;
  }
  for (uint32_t i = 0; i < c->changing; i++) {
    SetQueue(stage.arena, slot, 1, stamp);
    if (++slot == vms) slot = 0;
  }
}

inline void SetClock(TwinControl* c, uint64_t tsc) {
  // Low word first: the order of every pair in the contract.
  __atomic_store_n(&c->tsc_lo, static_cast<uint32_t>(tsc), __ATOMIC_RELAXED);
  __atomic_store_n(&c->tsc_hi, static_cast<uint32_t>(tsc >> 32), __ATOMIC_RELAXED);
}

// A turn calls the clock once at its start, and once more if it decides. At the start of one, the length of
// the turn or turns before is noted, the guests play outside of any turn, and the time is taken anew. Where
// the counter ticks in steps that are no smaller than a turn, several turns make one sample; guests must not
// play then.
inline void StageClock(const TwinStage& stage) {
  TwinControl* c = stage.control;
  if (c->fixed != 0) {
    SetClock(c, static_cast<uint64_t>(c->fixed_hi) << 32 | c->fixed_lo);
    return;
  }
  uint64_t tsc = __builtin_ia32_rdtsc();
  if (c->calls_per_turn != 0) {
    if (c->call == 0) {
      if (c->started == 0 || ++c->turn >= c->turns_per_sample) {
        if (c->started != 0 && c->samples < stage.max_samples) {
          const uint64_t ticks = tsc - c->started;
          stage.samples[c->samples++] = ticks > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(ticks);
        }
        c->turn = 0;
        c->started = tsc;
      }
      if (c->changing != 0) {
        PlayGuests(stage, tsc);
        tsc = __builtin_ia32_rdtsc();
        c->started = tsc;
      }
    }
    if (++c->call == c->calls_per_turn) c->call = 0;
  }
  SetClock(c, tsc);
}

// Results for the correctness test: refusals of every kind, the same ones for the same command.
inline int32_t Refusal(const int32_t* command) {
  static const int32_t kResults[8] = {0, 0, 0, -EBUSY, -EAGAIN, -EALREADY, -ESRCH, 0};
  const uint32_t mix = static_cast<uint32_t>(command[FLUX_CMD_OP] * 7 + command[FLUX_CMD_CORE] * 13 +
                                             command[FLUX_CMD_FROM] * 31 + command[FLUX_CMD_TO] * 61);
  return kResults[(mix ^ mix >> 5) % 8];
}

inline int32_t* CommandAt(int32_t* batch, int32_t i) {
  return batch + static_cast<ptrdiff_t>(i) * FLUX_CMD_WORDS;
}

// Heirs are written down, which is all that the real bridge does with them. Moves are left undone, so that
// the next turn finds the same world; what the real bridge would do for them costs both loops the same.
inline int32_t StageSubmit(const TwinStage& stage, int32_t* batch, int32_t count) {
  int32_t failed = 0;
  for (int32_t i = 0; i < count; i++) {
    int32_t* command = CommandAt(batch, i);
    int32_t result = stage.control->refuse != 0 ? Refusal(command) : 0;
    const uint32_t core = static_cast<uint32_t>(command[FLUX_CMD_CORE]);
    if (core >= FLUX_MAX_CORES) result = -EINVAL;
    if (result == 0 && command[FLUX_CMD_OP] == FLUX_OP_HEIR && stage.control->refuse == 0) {
      Poke(stage.table + (FLUX_CORES_OFFSET + core * FLUX_CORE_BYTES + offsetof(flux_core, heir)) / 4,
           command[FLUX_CMD_TO]);
    }
    command[FLUX_CMD_RESULT] = result;
    failed += result < 0;
  }
  // Release, last: the signaller's acquire that sees it knows that the commands are written.
  __atomic_store_n(&stage.control->commands, stage.control->commands + static_cast<uint32_t>(count),
                   __ATOMIC_RELEASE);
  return failed;
}

inline void StageBeat(const TwinStage& stage) {
  int32_t* heartbeat = stage.table + offsetof(flux_table, heartbeat) / 4;
  Poke(heartbeat, static_cast<int32_t>(stage.control->tsc_lo >> stage.shift |
                                       stage.control->tsc_hi << (31 - stage.shift) << 1));
}

}  // namespace

#endif
