import { defineConfig } from 'vitest/config';

// These take real cores and start real VMs: one file at a time, and after all the others.
const onRealCores = ['test/{e2e,contract,faults,cli}/**/*.test.ts'];

const common = {
  // A process for each file: an addon's threads and affinity do not leak from one file into another.
  pool: 'forks',
  testTimeout: 60_000,
  hookTimeout: 60_000,
} as const;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['{abi,arbiter,bench,kmod,native,scripts,test}/**/*.test.ts'],
          exclude: [...onRealCores, '**/node_modules/**', '**/target/**'],
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...common,
          name: 'cores',
          include: onRealCores,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
