// Linux with devices of the host, run by us, by QEMU or by kvmtool, and commanded over its serial console; and the host itself, by the same words.
// The guest is Debian's 6.1 with the Try Linux machine's programs.
import { spawn, execFileSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { SerialConsole } from '../../lab/serial-console.ts';
import { shellWord } from '../../src/main/lease/installed.ts';
import type { MachineConfig } from '../../src/shared/machine-config.ts';
import { built, startMachineProcess, type MachineProcess } from '../support/machine-process.ts';

export const MEMORY_MIB = 256;
const MIB = 2 ** 20;
/** The lab's own. */
const BUSYBOX = '/run/lab/busybox';
const APPEND = 'console=ttyS0 quiet';
/** kvmtool offers the guest no ACPI; these are of its own parameters those that its machine needs. */
const KVMTOOL_APPEND = 'noapic noacpi pci=conf1 reboot=k i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1';

export interface Linux {
  /** Runs one line in a shell; its output. Rejects when it fails or takes too long. */
  sh(line: string): Promise<string>;
  end(): Promise<void>;
  /** Of ours alone. */
  machine?: MachineProcess;
}

export interface Wish {
  /** Of the guest; its modules are in `initrd`. */
  initrd: string;
  addresses: readonly string[];
  /** More for the kernel's command line. */
  append?: string;
  /** For each command, milliseconds. */
  patience: number;
  /** Devices and arguments beside those. */
  more?: { ours?: MachineConfig['devices']; qemu?: readonly string[]; kvmtool?: readonly string[] };
}

/** The lab itself, in a network of its own: the lab's other card, by which we speak to it, has the same addresses. @param nic an interface to have there */
export async function hostLinux(nic: string, patience: number): Promise<Linux> {
  const child = spawn('unshare', ['-n', BUSYBOX, 'sh'], { stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' });
  const { console, end } = consoleOf(child, 'the shell', patience);
  await console.sh('true');
  execFileSync(BUSYBOX, ['ip', 'link', 'set', nic, 'netns', String(child.pid)]);
  return { sh: (line) => console.sh(line), end };
}

export async function ourLinux({ initrd, addresses, append = '', patience, more }: Wish): Promise<Linux> {
  const machine = await startMachineProcess({
    boot: { kernel: built('try-linux/vmlinuz'), initrd, append: `${APPEND} ${append}` }, memory: MEMORY_MIB * MIB, cpus: 1, display: { kind: 'none' },
    devices: [...addresses.map((address) => ({ kind: 'vfio-pci' as const, address })), ...(more?.ours ?? [])],
  });
  const { client } = machine.connection;
  const console = new SerialConsole((text) => void client.call('serialWrite', { data: Buffer.from(text).toString('base64') }).catch((thrown: Error) => console.end(thrown.message)), patience);
  const hear = (data: string): void => console.hear(Buffer.from(data, 'base64').toString('latin1'));
  client.stream('serial', ({ data }) => hear(data), hear, ({ why }) => console.end(why));
  return shellOf(console, () => machine.end(), machine);
}

export function qemuLinux(program: string, { initrd, addresses, append = '', patience, more }: Wish): Promise<Linux> {
  const devices = addresses.flatMap((address) => ['-device', `vfio-pci,host=${address},rombar=0`]);
  return childLinux(program, [
    '-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'q35', '-accel', 'kvm', '-cpu', 'host', '-m', `${MEMORY_MIB}M`, '-smp', '1',
    '-kernel', built('try-linux/vmlinuz'), '-initrd', initrd, '-append', `${APPEND} ${append}`, '-serial', 'stdio', ...devices, ...(more?.qemu ?? []),
  ], patience);
}

/** kvmtool's guest, not spoken to yet. */
export function startKvmtool(program: string, { initrd, addresses, append = '', patience, more }: Wish): { console: SerialConsole; end: () => Promise<void> } {
  const devices = addresses.flatMap((address) => ['--vfio-pci', address]);
  const words = [
    program, 'run', '--nodefaults', '-k', built('try-linux/vmlinuz'), '-i', initrd, '-p', `${KVMTOOL_APPEND} ${APPEND} ${append}`, '-m', `${MEMORY_MIB}M`, '-c', '1',
    '--console', 'serial', '-n', 'mode=none', ...devices, ...(more?.kvmtool ?? []),
  ];
  // It reads its console from a terminal alone.
  return startProcess('script', ['-qfc', `exec setpriv --pdeathsig KILL ${words.map(shellWord).join(' ')}`, '/dev/null'], patience);
}

async function childLinux(program: string, words: readonly string[], patience: number): Promise<Linux> {
  const { console, end } = startProcess(program, words, patience);
  return shellOf(console, end);
}

function startProcess(program: string, words: readonly string[], patience: number): { console: SerialConsole; end: () => Promise<void> } {
  return consoleOf(spawn(program, words, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, HOME: '/tmp' } }), program, patience);
}

/** A process whose standard streams are a console. */
function consoleOf(child: ChildProcessWithoutNullStreams, name: string, patience: number): { console: SerialConsole; end: () => Promise<void> } {
  const gone = new Promise<void>((done) => child.once('close', () => done()));
  const console = new SerialConsole((text) => child.stdin.write(text), patience);
  child.stdin.on('error', () => {});
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('latin1').on('data', (text: string) => console.hear(text));
  child.once('exit', (code, signal) => console.end(`${name} ended with ${signal ?? code}`));
  return {
    console,
    end: async () => {
      child.kill('SIGKILL');
      await gone;
    },
  };
}

async function shellOf(console: SerialConsole, end: () => Promise<void>, machine?: MachineProcess): Promise<Linux> {
  try {
    await console.shell();
  } catch (thrown) {
    await end();
    throw thrown;
  }
  return { sh: (line) => console.sh(line), end, machine };
}

/** Gives a device of the lab to vfio-pci, or back to the driver that wants it. */
export function toVfio(address: string, back = false): void {
  execFileSync('/bin/sh', ['-ec', `cd /sys/bus/pci/devices/${address}
    echo ${back ? '' : 'vfio-pci'} > driver_override
    [ ! -e driver ] || echo ${address} > driver/unbind
    echo ${address} > /sys/bus/pci/drivers_probe`]);
}

/** Shell words that wait for a condition, 30 s at most. */
export const until = (condition: string): string => `i=0; until ${condition}; do i=$((i + 1)); [ $i -lt 300 ] || break; sleep 0.1; done; ${condition}`;
