// SPDX-License-Identifier: Apache-2.0
// What the twin remembers between turns, as arbiter/loop/state.ts and stats.ts do, and what it stands on: a
// clock that notes each turn's length, and a bridge that carries nothing out. The TypeScript loop is given
// the same two.
#ifndef HYPERFLUX_NATIVE_TWIN_STATE_H
#define HYPERFLUX_NATIVE_TWIN_STATE_H

#include "twin.h"

constexpr int kBuckets = 27 * 32;  // arbiter/loop/histogram.ts
constexpr int kRecords = 4096;
constexpr int kRecordWords = 16;
constexpr int kBatchCommands = 2 * FLUX_MAX_CORES;
constexpr int kHandles = FLUX_MAX_VMS * FLUX_MAX_VCPUS;
constexpr int32_t kMaxRunq = 65536;

// The words that TypeScript and the addon steer each other by. One line for the clock, which is written in
// each turn, one for settings, one for the signaller, who watches the count of commands from another core.
struct TwinControl {
  uint32_t tsc_lo;
  uint32_t tsc_hi;
  uint32_t samples;  // noted so far: ticks of turns_per_sample turns each
  uint32_t call;     // calls of the clock in this turn so far
  uint64_t started;  // when the first turn of this sample did
  uint32_t cursor;   // the first VM that changes in the next turn
  uint32_t turn;     // turns of this sample so far
  uint32_t reserved0[8];
  uint32_t calls_per_turn;  // 0: note nothing
  uint32_t turns_per_sample;
  uint32_t fixed;  // not 0: the clock says fixed_lo and fixed_hi
  uint32_t fixed_lo;
  uint32_t fixed_hi;
  uint32_t vms;       // slots 0 to vms - 1 take part in the script
  uint32_t changing;  // so many of them change before each turn
  uint32_t rotate;    // not 0: others of them before each turn, and those before lose their work
  uint32_t age;       // in stamps: how long the work that they get has waited already
  uint32_t refuse;    // not 0: the bridge refuses some commands, always the same ones, and writes no heirs
  uint32_t reserved1[6];
  uint32_t commands;  // submitted so far: the signaller's answer
  uint32_t reserved2[15];
  uint32_t done;  // the signaller has finished
  uint32_t reserved3[15];
};
static_assert(sizeof(TwinControl) == 256, "four lines");

struct TwinStage {
  TwinControl* control;
  int32_t* arena;
  int32_t* table;
  uint32_t* samples;
  uint32_t max_samples;
  int shift;
};

struct TwinState {
  TwinView v;

  // The dense list of active VMs.
  int32_t d_slot[FLUX_MAX_VMS + kStagger];
  int32_t d_summary[FLUX_MAX_VMS + kStagger];
  int32_t d_vm[FLUX_MAX_VMS + kStagger];
  int32_t d_seq[FLUX_MAX_VMS + kStagger];
  int32_t d_busy[FLUX_MAX_VMS + kStagger];

  // By slot.
  int32_t dense[FLUX_MAX_VMS + kStagger];
  int32_t vm_vcpus[FLUX_MAX_VMS + kStagger];
  int32_t vm_load[FLUX_MAX_VMS + kStagger];
  int32_t vm_held[FLUX_MAX_VMS + kStagger];
  int32_t vm_has_oldest[FLUX_MAX_VMS + kStagger];
  int32_t vm_oldest[FLUX_MAX_VMS + kStagger];
  int32_t vm_has_timer[FLUX_MAX_VMS + kStagger];
  int32_t vm_timer[FLUX_MAX_VMS + kStagger];
  int32_t vm_aged_stamp[FLUX_MAX_VMS + kStagger];
  int32_t vm_aged[FLUX_MAX_VMS + kStagger];
  int32_t vm_busy_cores[FLUX_MAX_VMS + kStagger];
  int32_t vm_span[FLUX_MAX_VMS + kStagger];
  int32_t vm_left[FLUX_MAX_VMS + kStagger];
  int32_t vm_left_old[FLUX_MAX_VMS + kStagger];
  int32_t reach[FLUX_MAX_VMS + kStagger];
  int32_t reach_mark[FLUX_MAX_VMS + kStagger];

  // By core index.
  int32_t core_id[FLUX_MAX_CORES + kStagger];
  int32_t core_at[FLUX_MAX_CORES + kStagger];
  int32_t core_low[FLUX_MAX_CORES + kStagger];
  int32_t core_gen[FLUX_MAX_CORES + kStagger];
  int32_t core_since[FLUX_MAX_CORES + kStagger];
  int32_t core_old[FLUX_MAX_CORES + kStagger];
  int32_t core_guest[FLUX_MAX_CORES + kStagger];
  int32_t core_owner[FLUX_MAX_CORES + kStagger];
  int32_t core_busy[FLUX_MAX_CORES + kStagger];
  int32_t core_noted[FLUX_MAX_CORES + kStagger];

  // By handle.
  int32_t taken[kHandles + 1];
  int32_t heir_mark[kHandles + 1];

  int32_t active;
  int32_t cores;
  int32_t events;
  int32_t in_flight;
  int32_t stale;
  int32_t nudge;
  int32_t decision;
  int32_t last_low;
  int32_t has_last;

  // The policy and the guard.
  int32_t times[4];
  int32_t idle;  // cores that nobody has and nobody was given yet
  int32_t have[FLUX_MAX_VMS + kStagger];
  int32_t last_take[FLUX_MAX_VMS + kStagger];
  int32_t count[FLUX_MAX_VMS + kStagger];
  int32_t keeps[FLUX_MAX_VMS + kStagger];
  int32_t pace[5];  // arbiter/guard/pace.ts: on, between two takings from one VM and in all, burst, back
  int32_t empty[FLUX_MAX_VMS + kStagger];
  int32_t empty_of_all;
  int32_t paced_from[FLUX_MAX_CORES + kStagger];
  int32_t paced_to[FLUX_MAX_CORES + kStagger];

  struct {
    uint64_t turns, decisions, commands, grants, moves, parks, heirs, edits, core_events;
    uint64_t failed, busy, owner_changed, in_flight, dead, invalid, offline;
  } counters;
  int32_t turn_ns[kBuckets];
  int32_t gap_ns[kBuckets];
  int32_t decision_ns[kBuckets];
  uint32_t record_count;
  int32_t records[kRecords * kRecordWords];

  int32_t batch[kBatchCommands * FLUX_CMD_WORDS];
  int32_t record_of[kBatchCommands];

  double ns_per_tick;
  TwinStage stage;
};

// Words that others change while we look are read once, with this; pairs with the plain stores of guests and
// with the compare-and-swaps of the hand-over protocol. No order is needed: a figure that is a turn late is
// harmless.
static inline int32_t Peek(const int32_t* word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }

// twin_vms.cc
void TwinManage(TwinState& s, const int32_t* cores, int count);
void TwinAttach(TwinState& s, int32_t slot);
void TwinDetach(TwinState& s, int32_t slot);

// twin_level_*.cc: the same code for three CPU levels.
void TwinChunkBase(TwinState& s, int32_t n);
void TwinChunkV3(TwinState& s, int32_t n);
void TwinChunkV4(TwinState& s, int32_t n);

#endif
