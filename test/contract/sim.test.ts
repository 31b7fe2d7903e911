import { bridgeContract } from './suite.ts';
import { simWorld } from './world.ts';

bridgeContract('sim', simWorld);
