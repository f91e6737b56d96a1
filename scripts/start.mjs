// `npm start`: brings what is missing, builds, and opens Vitrine: in Electron where its binary, a display and its sandbox are to be had,
// else in the browser shell, whose address is printed.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildApp } from './setup/build.mjs';
import { describeElectron, prepareElectron } from './setup/electron.mjs';
import { main, prepareGuestMachines, prepareLabHost, prepareSources } from './setup/index.mjs';
import { probeKvm } from './setup/kvm.mjs';
import { missingFor, preparePackages } from './setup/packages.mjs';
import { SetupError, root, systemEnvironment } from './setup/run.mjs';
import { sandboxProblem } from './setup/sandbox.mjs';

const usage = `usage: npm start [-- OPTION…]
  --kvm        machines run on this computer's /dev/kvm, whatever the probe says
  --lab        machines run in the lab, an emulated host (slower)
  --browser    the browser shell, not Electron
  --help       this text`;

/** Where machines will run: { backend, line }; `backend` is empty where each machine decides by the same probe. */
export function chooseBackend({ kvm, lab }, probe) {
  if (kvm) return { backend: 'kvm', line: 'Machines run on /dev/kvm, as asked.' };
  if (lab) return { backend: 'lab', line: 'Machines run in the lab, as asked: an emulated host, so slower than this computer.' };
  if (probe.usable && probe.canBootLinux) return { backend: '', line: 'Machines run on /dev/kvm.' };
  return { backend: '', line: `Linux machines run in the lab, an emulated host, so slower than this computer: ${probe.why}` };
}

/** The shell to open: { electron } or { reason } for the browser shell. */
async function chooseShell({ browser }) {
  if (browser) return { reason: 'as asked' };
  if (process.geteuid?.() === 0) return { reason: 'Electron does not run as root with its sandbox on' };
  if (!process.env.DISPLAY && !process.env.WAYLAND_DISPLAY) return { reason: 'there is no display here' };
  const electron = await prepareElectron({ substitute: false });
  if ('reason' in electron) return { reason: electron.reason };
  try {
    if (missingFor(['electron']).length > 0) await preparePackages(['electron']);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    return { reason: error.message };
  }
  const problem = await sandboxProblem(electron.path);
  return problem === undefined ? { electron } : { reason: problem };
}

/** Runs a program in the foreground; Ctrl+C reaches it as well, and its exit code is ours. */
function inForeground(command, words, env) {
  return new Promise((done, failed) => {
    const child = spawn(command, words, { cwd: root, env, stdio: 'inherit' });
    const pass = (signal) => child.kill(signal);
    for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, pass);
    process.on('SIGINT', () => {});   // the terminal sends it to the whole group
    child.on('error', failed);
    child.on('exit', (code, signal) => done(code ?? (signal === 'SIGINT' || signal === 'SIGTERM' ? 0 : 1)));
  });
}

async function start() {
  let options;
  try {
    options = parseArgs({ options: { kvm: { type: 'boolean' }, lab: { type: 'boolean' }, browser: { type: 'boolean' }, help: { type: 'boolean' } } }).values;
  } catch (error) {
    throw new SetupError(`${error.message}\n${usage}`);
  }
  if (options.help) {
    console.log(usage);
    return 0;
  }
  if (options.kvm && options.lab) throw new SetupError('--kvm and --lab exclude each other.');
  await prepareSources(['start']);
  const probe = options.kvm || options.lab ? { usable: true, canBootLinux: !options.lab, why: '' } : probeKvm();
  const { backend, line } = chooseBackend(options, probe);
  if (options.lab || !probe.canBootLinux) await prepareLabHost();
  await prepareGuestMachines();
  await buildApp();
  console.log(line);

  const shell = await chooseShell(options);
  const env = systemEnvironment(backend === '' ? {} : { VITRINE_BACKEND: backend });
  if ('electron' in shell) {
    console.log(`Opening Vitrine in ${describeElectron(shell.electron)}.`);
    return inForeground(shell.electron.path, ['.'], env);
  }
  console.log(`Opening the browser shell (${shell.reason}). Open this address in a browser; Ctrl+C ends the server, machines run on:`);
  return inForeground(join(root, 'scripts/vitrine'), ['serve'], env);
}

if (process.argv[1]?.endsWith('start.mjs')) await main(start);
