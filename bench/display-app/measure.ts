// The measurement of bench/display-app.ts, as an ordinary user with a display. In one window, by turns: the demo's screen; the bare loop's while
// the demo runs on without a viewer, so that both have the same company; and the bare loop's while the demo is paused.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Page } from '@playwright/test';
import { BrowserShell } from '../../e2e/support/browser-shell.ts';
import { runCli } from '../../e2e/support/cli.ts';
import { ElectronShell } from '../../e2e/support/electron-shell.ts';
import { Folders } from '../../e2e/support/folders.ts';
import { openMachine } from '../../e2e/support/pages.ts';
import { Processes } from '../../e2e/support/processes.ts';
import { quietNetwork } from '../../e2e/support/quiet-network.ts';
import { Watch } from '../../e2e/support/watch.ts';
import { built } from '../support/machine-process.ts';
import { machineFacts, median, printTable } from '../support/report.ts';

const ROUNDS = 5;
const SETTLE_MS = 1500;
const SAMPLE_MS = 5000;
const HEIGHT = 800;
const PICTURE = 1280 * HEIGHT;
const GOAL = 60;
const GOAL_RATIO = 0.9;
const DEMO = { id: 'bench-demo', name: 'Demo at full speed' };
const BARE = { id: 'bench-bare', name: 'Bare loop' };

interface Sample {
  /** Draws a second. */
  draws: number;
  /** Frames received a second, and how much of the picture each replaced. */
  received: number;
  share: number;
  /** Milliseconds from the look at the guest's memory to the draw. */
  latency: number;
}

/** What the canvas says of itself, and when. */
function readCanvas(page: Page): Promise<{ at: number; draws: number; received: number; pixels: number; latency: number }> {
  return page.getByTestId('screen').locator('canvas').evaluate((canvas) => {
    const { frames, received, pixels, latency } = (canvas as HTMLCanvasElement).dataset;
    return { at: performance.now(), draws: Number(frames), received: Number(received), pixels: Number(pixels), latency: Number(latency) };
  });
}

async function sample(page: Page, name: string): Promise<Sample> {
  await openMachine(page, name);
  await page.getByTestId('screen-size').waitFor();
  await sleep(SETTLE_MS);
  const before = await readCanvas(page);
  await sleep(SAMPLE_MS);
  const after = await readCanvas(page);
  const seconds = (after.at - before.at) / 1000;
  const received = after.received - before.received;
  return { draws: (after.draws - before.draws) / seconds, received: received / seconds, share: (after.pixels - before.pixels) / received / PICTURE, latency: after.latency };
}

function startBare(folder: string, socket: string, rows: number, env: Record<string, string>): ChildProcess {
  const program = fileURLToPath(new URL('./bare-machine.ts', import.meta.url));
  return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', program, '--folder', folder, '--socket', socket, '--rows', `${rows}`], { env, stdio: ['ignore', 'pipe', 'inherit'] });
}

async function measure(kind: 'electron' | 'browser'): Promise<string[]> {
  const folders = new Folders();
  const env = folders.environment({});
  const watch = new Watch();
  const shell = kind === 'electron' ? new ElectronShell(folders, env, watch) : new BrowserShell(folders, env, watch);
  const processes = new Processes(folders.runtime);
  const folderOf = (id: string): string => join(folders.data, 'vitrine/machines', id);
  for (const { id, name } of [DEMO, BARE]) {
    mkdirSync(folderOf(id), { recursive: true, mode: 0o700 });
    const config = { version: 1, id, name, memory: 64 * 2 ** 20, cpus: 1, boot: { kernel: built('guests/demo.elf'), append: 'fps' } };
    writeFileSync(join(folderOf(id), 'machine.json'), JSON.stringify(config), { mode: 0o600 });
  }
  const vitrine = async (...words: string[]): Promise<void> => {
    const { code, stderr } = await runCli(words, env);
    if (code !== 0) throw new Error(`vitrine ${words.join(' ')} failed: ${stderr}`);
  };
  const runtime = join(folders.runtime, 'vitrine');
  mkdirSync(runtime, { recursive: true, mode: 0o700 });
  let bare: ChildProcess | undefined;
  try {
    await shell.start();
    const { page } = shell;
    await quietNetwork(page);
    await vitrine('start', DEMO.id);
    // The bare loop sends as much of the picture as the demo changes.
    const { share } = await sample(page, DEMO.name);
    bare = startBare(folderOf(BARE.id), join(runtime, `${BARE.id}.sock`), Math.round(share * HEIGHT), env);
    await once(bare.stdout!, 'data');
    const ours: Sample[] = [];
    const beside: Sample[] = [];
    const alone: Sample[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      ours.push(await sample(page, DEMO.name));
      beside.push(await sample(page, BARE.name));
      await vitrine('pause', DEMO.id);
      alone.push(await sample(page, BARE.name));
      await vitrine('resume', DEMO.id);
    }
    const of = (list: Sample[], field: keyof Sample): number => median(list.map((one) => one[field]));
    const ratio = (list: Sample[]): string => median(ours.map(({ received }, round) => received / list[round]!.received)).toFixed(2);
    const name = kind === 'electron' ? (process.env['VITRINE_BENCH_ELECTRON'] ?? 'Electron') : 'Chromium';
    const painter = await page.getByTestId('screen').locator('canvas').getAttribute('data-painter');
    return [
      `${name}, ${painter}`, of(ours, 'received').toFixed(1), of(ours, 'draws').toFixed(1), of(ours, 'share').toFixed(2), of(ours, 'latency').toFixed(0),
      of(beside, 'received').toFixed(1), ratio(beside), of(alone, 'received').toFixed(1), ratio(alone),
    ];
  } finally {
    await shell.close();
    bare?.kill();
    await processes.end();
    await folders.remove();
  }
}

console.log(machineFacts());
const rows = [await measure('electron'), await measure('browser')];
printTable(['1280x800', 'frames/s', 'draws/s', 'of the picture', 'latency, ms', 'bare, beside the guest', 'ratio', 'bare, guest paused', 'ratio'], rows);
console.log(`Medians of ${ROUNDS} times ${SAMPLE_MS / 1000} s by turns. Goal: ${GOAL} frames a second, and ${GOAL_RATIO} of the bare loop.`);
process.exit();
