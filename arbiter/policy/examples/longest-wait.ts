import { CORE_MOVING, definePolicy, HEAD_CORES, HEAD_HOT, NO_VM, smallArray, z } from '../index.ts';

export const longestWait = definePolicy({
  ...{ api: 1, name: 'longest-wait', version: '1.0.0' },
  summary: 'whoever has waited longest gets an idle core, or the one that somebody has had longest',
  params: z.strictObject({
    tenure_us: z.number().min(0).default(100).describe('nobody loses a core sooner'),
  }),
  bind(view, out) {
    const { head, hot, vmAway, vmCores, vmDelay, vmWants, coreAge, coreFlags, coreVm } = view;
    const tenure = smallArray(1);
    return {
      decide() {
        let vm = NO_VM;
        for (let i = 0; i < head[HEAD_HOT]; i++) {
          if (vmWants[hot[i]] <= vmCores[hot[i]]) continue;
          // Those without a core go first: how long that is, the host knows, and nobody can lie.
          const more = vm === NO_VM ? 1 : vmAway[hot[i]] - vmAway[vm] || vmDelay[hot[i]] - vmDelay[vm];
          if (more > 0) vm = hot[i];
        }
        if (vm === NO_VM) return;
        let core = -1;
        for (let k = 0; k < head[HEAD_CORES]; k++) {
          if (coreVm[k] === vm || (coreFlags[k] & CORE_MOVING) !== 0) continue;
          const age = coreVm[k] === NO_VM ? 0x7fffffff : coreAge[k];
          if (age >= tenure[0] && (core < 0 || age > coreAge[core])) core = k;
          if (coreVm[k] === NO_VM) break;
        }
        if (core >= 0) out.target[core] = vm;
      },
      configure: ({ tenure_us }, stampsPerUs) => void (tenure[0] = tenure_us * stampsPerUs),
    };
  },
});
