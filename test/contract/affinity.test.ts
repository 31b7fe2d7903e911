import { describe, test } from 'vitest';
import { affinityStage, cannot, puppetWorld } from './puppet-world.ts';
import { bridgeContract } from './suite.ts';

const why = await cannot();
if (why === '') bridgeContract('affinity', () => puppetWorld(affinityStage()));
else describe(`bridge contract: affinity (not run: ${why})`, () => test.skip('needs the puppet', () => {}));
