// The keeper of a user's shared lab: a process of its own that starts the lab, says where it is, looks whether it still answers, and
// tidies up when it has gone. The lab dies with it (startLab); it takes no part in what the lab's users do. See lab/shared.ts.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import process from 'node:process';
import { prepareLab } from '../scripts/setup/lab.mjs';
import { pingLab } from './client.ts';
import { runtimeFolder } from '../src/vmm/server/runtime-folder.ts';
import { startLab } from './host.ts';
import type { LabHost } from './host.ts';
import { LATE_DRIVERS } from './qemu.ts';
import { EXIT_ANOTHER_KEEPER, endpointFile, keeperLog } from './shared.ts';
import type { KeeperConfig } from './shared.ts';

/** Time for whoever asked for the lab to connect, and for a machine to be started after another has ended. */
const IDLE_MILLISECONDS = 10_000;
const LOOK_MILLISECONDS = 15_000;
/** Emulation on a busy computer may be slow to answer. */
const PATIENCE_MILLISECONDS = 120_000;

/** Takes the name that only one keeper can have; false if another has it. */
function takeName(key: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
    const place = createHash('sha256').update(runtimeFolder()).digest('hex').slice(0, 16);
    server.listen(`\0vitrine-lab:${place}:${key}`, () => {
      server.unref();
      resolve(true);
    });
  });
}

function publish(key: string, lab: LabHost): void {
  const file = endpointFile(key);
  fs.writeFileSync(`${file}.new`, JSON.stringify({ ...lab.endpoint, keeper: process.pid }), { mode: 0o600 });
  fs.renameSync(`${file}.new`, file);
}

/** Looks from time to time whether the lab answers, until it has ended. */
async function watch(lab: LabHost): Promise<void> {
  for (;;) {
    let timer: NodeJS.Timeout | undefined;
    const pause = new Promise<'look'>((resolve) => (timer = setTimeout(() => resolve('look'), LOOK_MILLISECONDS)));
    const what = await Promise.race([lab.ended, pause]);
    clearTimeout(timer);
    if (what !== 'look') return;
    // one that hangs, or is just going: stop() waits for its end, and kills it if that does not come
    await pingLab(lab.endpoint, PATIENCE_MILLISECONDS).catch(() => lab.stop());
  }
}

async function main(): Promise<number> {
  const { key, lab: options } = JSON.parse(process.argv[2]!) as KeeperConfig;
  if (!(await takeName(key))) return EXIT_ANOTHER_KEEPER;
  fs.truncateSync(keeperLog(key));
  fs.rmSync(endpointFile(key), { force: true });
  await prepareLab({ log: (line) => console.log(line), install: false, kernels: ['6.1'], guest: false });
  const lab = await startLab({ ...options, idle: IDLE_MILLISECONDS });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => void lab.stop());
  publish(key, lab);
  // no machine waits for them, and the Devices page shows them as they come
  lab.run(LATE_DRIVERS, { user: 'root', cwd: '/' }).catch((error: Error) => console.log(error.message));
  lab.release();
  await watch(lab);
  fs.rmSync(endpointFile(key), { force: true });
  fs.rmSync(keeperLog(key), { force: true });
  return 0;
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    console.log(error.message);
    process.exit(1);
  }
);
