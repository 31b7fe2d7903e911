/**
 * Usage: mover.ts affinity|kflux. An arbiter that does nothing but move a core to and fro between two VMs, as fast as
 * it can, until it is killed. Prints one line of JSON: the sockets and pids of its VMs.
 */
import { getAffinity, OP_GRANT, OP_MOVE, pinThread } from '../../native/index.ts';
import { Rig, type RigOptions } from '../../bench/lib/rig.ts';
import { coreOwner } from '../../arbiter/abi/words.ts';

const [driver, core] = getAffinity(0);
pinThread(driver);
const rig = new Rig(driver, [core], { bridge: process.argv[2] as RigOptions['bridge'] });
const pair = [
  await rig.start({ name: 'left', cmdline: 'probe mode=spin' }),
  await rig.start({ name: 'right', cmdline: 'probe mode=poll' }),
];
rig.command(OP_GRANT, core, 0, rig.handle(pair[0]));
process.stdout.write(
  `${JSON.stringify(pair.map(({ name, pid }) => ({ name, pid, socket: `${rig.dir}/${name}.sock` })))}\n`,
);
for (;;) {
  const owner = coreOwner(rig.owner(core));
  const from = pair.find((vm) => rig.handle(vm) === owner);
  const to = pair.find((vm) => vm !== from)!;
  // Most are refused, because the last one is still under way; that is the point.
  if (from) rig.command(OP_MOVE, core, owner, rig.handle(to));
  rig.bridge.poll();
  rig.bridge.beat();
}
