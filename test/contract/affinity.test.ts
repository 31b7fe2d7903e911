import { describe, test } from 'vitest';
import { affinityWorld, cannot } from './affinity-world.ts';
import { bridgeContract } from './suite.ts';

const why = await cannot();
if (why === '') bridgeContract('affinity', affinityWorld);
else describe(`bridge contract: affinity (not run: ${why})`, () => test.skip('needs the puppet', () => {}));
