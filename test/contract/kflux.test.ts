import { describe, test } from 'vitest';
import { cannotKflux, kfluxStage } from './kflux-world.ts';
import { puppetWorld } from './puppet-world.ts';
import { bridgeContract } from './suite.ts';

const why = await cannotKflux();
if (why === '') bridgeContract('kflux', async () => puppetWorld(await kfluxStage()));
else describe(`bridge contract: kflux (not run: ${why})`, () => test.skip('needs kFlux', () => {}));
