// Gives devices to a machine of a library, as a front does, and kills itself at one of the steps, for the test of what is left then.
//   give-main LIBRARY MACHINE GROUP,… STEP     with VITRINE_HOST_TREE and VITRINE_TREE_HELPER; STEP counts what is told of progress, from 1
import { readHostDevices } from '../../host-devices/read.ts';
import { realRoots } from '../../host-devices/roots.ts';
import { Library } from '../../library/library.ts';
import { giveDevices } from '../perform.ts';
import { hostPlace } from '../place.ts';
import type { PlanQuestion } from '../plan.ts';
import { planFor } from '../plan.ts';

const [folder, id, groups, step] = process.argv.slice(2);
const library = new Library(folder);
const place = hostPlace(process.env);
const config = library.config(id);
const choice = { id, groups: groups.split(','), mode: 'kept' as const, roms: {} };
const found = readHostDevices({ roots: realRoots(), machine: { id, name: config.name, memory: config.memory } });
const question: PlanQuestion = { found, config, running: false, claims: [], choice, helper: place.helper(), root: false, grants: [] };
let told = 0;
await giveDevices({ ...choice, digest: planFor(question).digest }, question, {
  library, place,
  progress: ({ text }) => {
    process.stdout.write(`${text}\n`);
    if (++told === Number(step)) process.kill(process.pid, 'SIGKILL');
  },
});
