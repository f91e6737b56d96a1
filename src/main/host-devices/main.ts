// A process that reads this host's devices and tells them as they change: it exists while somebody watches. A process of its own, because a
// driver that hangs can hang whoever reads sysfs, and because the same program runs in the lab for the lab's devices.
//   in:   lines of JSON, each a Question: the first begins the watching, every later one replaces it. The end of input ends the process.
//   out:  lines of JSON, each the whole of HostDevices, when it is another than before
import { createInterface } from 'node:readline';
import type { Question } from './question.ts';
import { readHostDevices } from './read.ts';
import { realRoots } from './roots.ts';
import { fingerprint } from './fingerprint.ts';

/** How often the fingerprint is taken, in milliseconds. */
const LOOK = 1000;
/** How often everything is read, whatever the fingerprint says: programs open and close files unseen. Milliseconds. */
const LOOK_ROUND = 10_000;
/** The free memory is told in steps of this, or every look would tell of a change. Bytes. */
const MEMORY_STEP = 256 * 2 ** 20;

const roots = realRoots();
const on = process.env.VITRINE_IN_LAB === '1' ? 'lab' : 'host';
let question: Question | undefined;
let print = '';
let told = '';
let readAt = 0;

function tell(): void {
  if (question === undefined) return;
  // Taken before: what changes meanwhile is seen at the next look.
  print = fingerprint(roots);
  readAt = Date.now();
  const found = readHostDevices({ roots, on, ...question });
  if (found.host !== undefined) found.host.memory.available = Math.floor(found.host.memory.available / MEMORY_STEP) * MEMORY_STEP;
  const line = JSON.stringify(found);
  if (line === told) return;
  told = line;
  process.stdout.write(`${line}\n`);
}

process.stdout.on('error', () => process.exit(0));
createInterface({ input: process.stdin })
  .on('line', (line) => {
    question = JSON.parse(line) as Question;
    tell();
  })
  .on('close', () => process.exit(0));
setInterval(() => {
  if (Date.now() - readAt >= LOOK_ROUND || fingerprint(roots) !== print) tell();
}, LOOK);
