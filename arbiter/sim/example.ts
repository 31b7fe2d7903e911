/** What is simulated if nobody says what: small, and over in a moment. */
import { parseScenario } from './scenario.ts';

export const EXAMPLE = parseScenario(
  {
    name: 'example',
    seconds: 0.5,
    cores: 16,
    vms: [
      {
        name: 'web',
        ...{ count: 40, class: 'lc', vcpus: 4 },
        arrivals: { kind: 'bursty', per_second: 12_000, on_ms: 4, off_ms: 20 },
        service: { kind: 'exponential', mean_us: 50 },
      },
      {
        name: 'api',
        ...{ count: 8, class: 'lc', vcpus: 8, min_cores: 1 },
        arrivals: { kind: 'poisson', per_second: 3000 },
        service: { kind: 'bimodal', short_us: 20, long_us: 1000, long_share: 0.02 },
      },
      { name: 'bulk', count: 8, class: 'be', vcpus: 4, threads: 4 },
    ],
  },
  'the example',
  '.',
);
