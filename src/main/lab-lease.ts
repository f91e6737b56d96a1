// Devices of the lab for a machine that runs there: the privileged helper does in the emulated host what it does on a real one, started by the
// lab's agent as its root, for its ordinary user. Nobody is asked: that root is the user's own. The lease lasts as long as this process, the
// machine's relay; a relay that is killed takes helper and machine along, and the lab's next helper undoes what they have left.
import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import type { LabCommand } from '../../lab/client.ts';
import type { LabHost } from '../../lab/host.ts';
import { VitrineError } from '../shared/errors.ts';
import { helperSource } from './lease/installed.ts';
import { Lease } from './lease/lease.ts';
import { takingRequests } from './lease/protocol.ts';
import type { Starter } from './lease/start.ts';

const ATTEMPTED = 'give the lab\'s devices to the machine';

/** Tells its process id, then waits for a line on its input, and becomes the command. */
const WAIT = 'echo $$; read -r go && exec "$@" < /dev/null';

/** A command in the lab that is still to come, as the child process that a lease speaks to. */
function childOf(starting: Promise<LabCommand>): ChildProcessWithoutNullStreams {
  const child = Object.assign(new EventEmitter(), { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() });
  starting.then(
    (command) => {
      child.stdin.on('data', (chunk: Buffer) => command.stdin.write(chunk));
      // A lease lets go by destroying its end.
      const close = () => command.stdin.end();
      if (child.stdin.destroyed) close();
      else child.stdin.on('close', close);
      command.stdout.pipe(child.stdout);
      command.stderr.pipe(child.stderr);
      command.exited.then(({ code }) => child.emit('close', code), () => child.emit('close', null));
    },
    (thrown: Error) => child.emit('error', thrown),
  );
  return child as unknown as ChildProcessWithoutNullStreams;
}

function helperIn(lab: LabHost, words: string[], uid: number): Promise<LabCommand> {
  const { helper } = helperSource();
  if (helper === undefined) return Promise.reject(new VitrineError({ attempted: ATTEMPTED, on: '', why: 'Vitrine\'s privileged helper was not built.', remedy: 'Run: npm start', code: 'helper-missing' }));
  return lab.start([helper, ...words], { user: 'root', cwd: '/', env: { SUDO_UID: String(uid) }, fresh: true });
}

async function output(command: LabCommand): Promise<string> {
  let text = '';
  command.stdout.on('data', (chunk: Buffer) => (text += chunk.toString('utf8')));
  command.stderr.resume();
  await command.exited;
  return text;
}

/** Has the lab undo what helpers that were killed have left there. */
export async function recoverLab(lab: LabHost): Promise<void> {
  await output(await helperIn(lab, ['list'], process.getuid!()));
}

/** The IOMMU groups of devices, as the lab's sysfs has them. */
async function groupsOf(lab: LabHost, addresses: readonly string[]): Promise<number[]> {
  const script = 'for a; do basename "$(readlink "/sys/bus/pci/devices/$a/iommu_group" || echo none)"; done';
  const lines = (await output(await lab.start(['/bin/sh', '-c', script, 'sh', ...addresses], { cwd: '/' }))).trim().split('\n');
  return addresses.map((address, at) => {
    if (/^\d+$/.test(lines[at] ?? '')) return Number(lines[at]);
    throw new VitrineError({ attempted: ATTEMPTED, on: address, why: 'the lab has no such device.', remedy: 'The page Devices shows those that it has.', code: 'lease-no-device' });
  });
}

/** A lease of devices with their groups. Throws what the helper refuses, with the lab as it was. */
export async function leaseInLab(lab: LabHost, addresses: readonly string[]): Promise<Lease> {
  const groups = new Set(await groupsOf(lab, addresses));
  const starter: Starter = { asks: false, start: (way, words = []) => childOf(helperIn(lab, [way, ...words], process.getuid!())) };
  return Lease.take(takingRequests(addresses, groups), { starter, attempted: ATTEMPTED });
}

/** The command line that waits, and what lets it go on once it may lock `bytes` bytes. */
export function waiting(argv: readonly string[]): string[] {
  return ['/bin/sh', '-c', WAIT, 'sh', ...argv];
}

/** Raises the limit of the process that `waiting` began, and lets it become the machine. Its output from then on is the machine's. */
export async function letGoOn(command: LabCommand, lease: Lease, bytes: number): Promise<void> {
  const pid = await new Promise<number>((resolve, reject) => {
    const take = (chunk: Buffer): void => {
      const end = chunk.indexOf(0x0a);
      command.stdout.off('data', take);
      command.stdout.pause();
      if (end < 0) return reject(new Error('a process in the lab did not say its number'));
      if (end + 1 < chunk.length) command.stdout.unshift(chunk.subarray(end + 1));
      resolve(Number(chunk.subarray(0, end)));
    };
    command.stdout.on('data', take);
    command.exited.then(() => reject(new Error('the process in the lab ended before it began')), reject);
  });
  await lease.memlock(pid, bytes);
  command.stdin.end('go\n');
}
