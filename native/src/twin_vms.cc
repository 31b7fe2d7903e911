// SPDX-License-Identifier: Apache-2.0
// VMs coming to the twin and leaving it: arbiter/loop/vms.ts, and manage() of cores.ts.
#include <string.h>

#include "twin_state.h"

namespace {

int32_t Clamp(int32_t value, int32_t low, int32_t high) {
  const uint32_t v = static_cast<uint32_t>(value);
  return v < static_cast<uint32_t>(low) ? low : v > static_cast<uint32_t>(high) ? high : value;
}

int32_t VmWord(int32_t slot) { return (FLUX_VMS_OFFSET + slot * FLUX_VM_BYTES) / 4; }

void Configure(TwinState& s, int32_t slot) {
  const int32_t* vm = s.stage.table + VmWord(slot);
  const int32_t vcpus = Clamp(Peek(vm + offsetof(flux_vm, vcpus) / 4), 1, FLUX_MAX_VCPUS);
  const int32_t most = vcpus < s.cores ? vcpus : s.cores;
  const int32_t max = Clamp(Peek(vm + offsetof(flux_vm, max_cores) / 4), 1, most < 1 ? 1 : most);
  s.vm_vcpus[slot] = vcpus;
  s.v.vmClass[slot] =
      Peek(vm + offsetof(flux_vm, vm_class) / 4) == FLUX_CLASS_LC ? FLUX_CLASS_LC : FLUX_CLASS_BE;
  s.v.vmMax[slot] = max;
  s.v.vmMin[slot] = Clamp(Peek(vm + offsetof(flux_vm, min_cores) / 4), 0, max);
  s.v.limit[slot] = max;
  s.v.known[slot] = 1;
}

}  // namespace

void TwinManage(TwinState& s, const int32_t* cores, int count) {
  for (int32_t k = 0; k < s.cores; k++) {
    const int32_t vm = s.v.coreVm[k];
    const int32_t owner = s.core_owner[k];
    if (owner != kNoVm) s.vm_span[owner]--;
    if (vm == kNoVm) continue;
    if (vm != owner) s.vm_span[vm]--;
    if (s.core_busy[k] != 0) s.vm_busy_cores[vm]--;
    s.v.vmCores[vm]--;
  }
  s.cores = count;
  s.v.head[kHeadCores] = count;
  for (int32_t k = 0; k < count; k++) {
    s.core_id[k] = cores[k];
    s.core_at[k] = (FLUX_CORES_OFFSET + cores[k] * FLUX_CORE_BYTES) / 4;
    s.v.coreVm[k] = kNoVm;
    s.core_owner[k] = kNoVm;
    s.v.coreLast[k] = kNoVm;
    s.v.coreHeir[k] = kNoVm;
    s.v.coreFlags[k] = 0;
    s.v.coreAge[k] = 0;
    s.core_old[k] = 0;
    s.core_busy[k] = 0;
    s.core_guest[k] = -1;
    s.core_noted[k] = 0;
    s.core_low[k] = 0;
    // Not the table's: the first scan takes every core for changed and reads it.
    s.core_gen[k] = ~Peek(s.stage.table + s.core_at[k] + 1);
  }
}

void TwinAttach(TwinState& s, int32_t slot) {
  if (s.dense[slot] >= 0) return;
  const int32_t i = s.active++;
  s.dense[slot] = i;
  s.d_slot[i] = slot;
  s.d_summary[i] = (slot * FLUX_HOT_BYTES + slot % FLUX_SUMMARY_LINES * FLUX_LINE) / 4;
  s.d_vm[i] = VmWord(slot);
  s.d_seq[i] = ~Peek(s.stage.arena + s.d_summary[i]);
  s.d_busy[i] = 2;
  s.vm_load[slot] = 0;
  s.vm_held[slot] = 0;
  s.vm_has_oldest[slot] = 0;
  s.vm_has_timer[slot] = 0;
  s.vm_aged[slot] = 0;
  s.vm_aged_stamp[slot] = 0;
  s.vm_left[slot] = s.v.head[kHeadNow];
  s.vm_left_old[slot] = 0;
  s.v.vmFlags[slot] = kVmBooting;
  s.v.vmAway[slot] = 0;
  s.v.vmDelay[slot] = 0;
  s.v.vmWants[slot] = 0;
  Configure(s, slot);
  s.nudge = 1;
}

void TwinDetach(TwinState& s, int32_t slot) {
  const int32_t i = s.dense[slot];
  if (i < 0) return;
  const int32_t last = --s.active;
  s.d_slot[i] = s.d_slot[last];
  s.d_summary[i] = s.d_summary[last];
  s.d_vm[i] = s.d_vm[last];
  s.d_seq[i] = s.d_seq[last];
  s.d_busy[i] = s.d_busy[last];
  s.dense[s.d_slot[i]] = i;
  s.dense[slot] = -1;
  s.v.known[slot] = 0;
  s.v.limit[slot] = 0;
  s.v.vmMax[slot] = 0;
  s.v.vmMin[slot] = 0;
  s.v.vmFlags[slot] = 0;
  s.v.vmDelay[slot] = 0;
  s.v.vmWants[slot] = 0;
  s.nudge = 1;
}
