import { CORE_MOVING, definePolicy, HEAD_CORES, HEAD_HOT, NO_VM, smallArray, WHY_DELAY, z } from '../index.ts';

export const longestWait = definePolicy({
  api: 1,
  name: 'longest-wait',
  version: '1.0.0',
  summary: 'whoever has waited longest gets an idle core, or the one that somebody has had longest',
  params: z.strictObject({ tenure_us: z.number().min(0).default(100).describe('nobody loses a core sooner') }),
  bind({ head, hot, vmCores, vmDelay, vmWants, coreAge, coreFlags, coreVm }, { target, why }) {
    const tenure = smallArray(1);
    return {
      decide() {
        let vm = NO_VM;
        for (let i = 0; i < head[HEAD_HOT]; i++) {
          const other = hot[i];
          if (vmWants[other] <= vmCores[other]) continue;
          if (vm === NO_VM || vmDelay[other] > vmDelay[vm]) vm = other;
        }
        if (vm === NO_VM) return;
        let core = -1;
        for (let k = 0; k < head[HEAD_CORES]; k++) {
          if (coreVm[k] === vm || (coreFlags[k] & CORE_MOVING) !== 0) continue;
          if (coreVm[k] === NO_VM) {
            core = k;
            break;
          }
          if (coreAge[k] >= tenure[0] && (core < 0 || coreAge[k] > coreAge[core])) core = k;
        }
        if (core < 0) return;
        target[core] = vm;
        why[core] = WHY_DELAY;
      },
      configure({ tenure_us }, stampsPerUs) {
        tenure[0] = tenure_us * stampsPerUs;
      },
    };
  },
});
