// What a machine costs while nothing happens, with a viewer attached: the demo on this host's /dev/kvm, halted after its first picture; and
// Linux at its prompt in the lab, where only the cursor blinks. The processor time is the whole process's.
// Run: scripts/node24 bench/idle.ts [here | lab | linux]
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Frame } from '../src/shared/protocol/frames.ts';
import { TILE_HEIGHT, TILE_WIDTH } from '../src/vmm/display/tiles.ts';
import { inLab } from './support/lab.ts';
import { built, processSeconds, running, startMachineProcess, view, type BenchMachine } from './support/machine-process.ts';
import { machineFacts, median, printTable } from './support/report.ts';

const SECONDS = 10;
const ROUNDS = 3;
const MiB = 2 ** 20;
/** No frame for this long: the guest has drawn what it had to. */
const QUIET_MS = 3000;
const PROMPT = 'try-linux:~#';

interface Quiet {
  frames: number;
  /** Distinct tiles that the frames replaced. */
  tiles: number;
  /** Per cent of a core. */
  cpu: number;
}

function tilesOf({ rectangles }: Frame): string[] {
  const tiles: string[] = [];
  for (const { x, y, width, height } of rectangles) {
    for (let row = Math.floor(y / TILE_HEIGHT); row * TILE_HEIGHT < y + height; row++) {
      for (let column = Math.floor(x / TILE_WIDTH); column * TILE_WIDTH < x + width; column++) tiles.push(`${column},${row}`);
    }
  }
  return tiles;
}

/** @param settled resolves when the guest has come to rest */
async function measure(machine: BenchMachine, settled: (state: { serial: string; lastFrame: number }) => boolean): Promise<Quiet[]> {
  const process = await startMachineProcess(machine);
  const state = { serial: '', lastFrame: Infinity };
  let frames: Frame[] = [];
  try {
    await running(process);
    const append = (data: string): void => {
      state.serial += Buffer.from(data, 'base64').toString('latin1');
    };
    process.connection.client.stream('serial', ({ data }) => append(data), append, () => {});
    await view(process, (frame) => {
      state.lastFrame = performance.now();
      frames.push(frame);
    });
    while (!settled(state)) await sleep(100);
    const results: Quiet[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      frames = [];
      const begin = performance.now();
      const cpu = processSeconds(process.pid);
      await sleep(SECONDS * 1000);
      const share = ((processSeconds(process.pid) - cpu) / (performance.now() - begin)) * 1e5;
      results.push({ frames: frames.length, tiles: new Set(frames.flatMap(tilesOf)).size, cpu: share });
    }
    return results;
  } finally {
    await process.end();
  }
}

function show(name: string, results: Quiet[], goal: string): void {
  const of = (field: keyof Quiet): number => median(results.map((one) => one[field]));
  printTable([`${SECONDS} s each, ${ROUNDS} times`, 'frames', 'tiles', '% of a core', 'goal'], [[name, `${of('frames')}`, `${of('tiles')}`, of('cpu').toFixed(2), goal]]);
}

async function here(): Promise<void> {
  console.log(machineFacts());
  const machine = { boot: { kernel: built('guests/demo.elf'), append: 'idle' }, memory: 64 * MiB, cpus: 1 };
  show('halted demo', await measure(machine, ({ lastFrame }) => performance.now() - lastFrame > QUIET_MS), 'no frame, under 1 %');
}

async function linux(): Promise<void> {
  console.log(machineFacts());
  const boot = { kernel: built('try-linux/vmlinuz'), initrd: built('try-linux/initrd.gz'), append: 'console=ttyS0 console=tty0' };
  const started = performance.now();
  let prompt = 0;
  const results = await measure({ boot, memory: 512 * MiB, cpus: 1 }, ({ serial }) => {
    if (prompt === 0 && serial.includes(PROMPT)) prompt = performance.now();
    return prompt !== 0 && performance.now() - prompt > 2 * QUIET_MS;
  });
  show(`Linux at its prompt (up ${((performance.now() - started) / 1000).toFixed(0)} s)`, results, "only the cursor's tile");
}

const where = process.argv[2];
if (where === 'linux') await linux();
if (where === undefined || where === 'here') {
  if (existsSync('/dev/kvm')) await here();
  else console.log('Here: left out, this host has no /dev/kvm.');
}
if (where === undefined || where === 'lab') {
  console.log('');
  await inLab(fileURLToPath(import.meta.url), ['linux']);
}
process.exit();
