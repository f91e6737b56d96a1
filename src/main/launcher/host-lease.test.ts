// Machines with devices of a host made of files, at their start and added later: what they hold while they run, and that all of it comes back.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Tether } from './tether.ts';
import { VitrineError } from '../../shared/errors.ts';
import { isHeld, lastOutcome, readRunInfo } from '../../vmm/server/run-record.ts';
import type { Starter } from '../lease/start.ts';
import { compileHelper, FakeHost } from '../lease/testing/fake-host.ts';
import { Library } from '../library/library.ts';
import type { BackendChoice } from './backend.ts';
import type { MachineConnection } from '../machine-connection.ts';
import { addDeviceTo, needsLease } from './host-lease.ts';
import { startMachine } from './launch.ts';

const entry = fileURLToPath(new URL('../../vmm/server/testing/fake-entry.ts', import.meta.url));
const MiB = 2 ** 20;
const NIC = '0000:00:02.0';
const DISK = '0000:00:03.0';
const choice: BackendChoice = { kvm: { usable: true, canBootLinux: true, problem: null }, backend: { linux: 'kvm', freestanding: 'kvm' }, forced: false, why: '' };
const ENOUGH = `Max locked memory         ${2 ** 40}              ${2 ** 40}              bytes     \n`;
const LITTLE = 'Max locked memory         8388608              8388608              bytes     \n';
let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'vitrine-start-'));
  compileHelper(join(folder, 'helper'));
});
after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `it never came to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/**
 * A host, and a helper on it. A process whose limit is to be raised is put into the host's /proc just before the helper looks, as one that may
 * lock `allowed` bytes; each such request is noted in `asked`.
 */
function prepare(address: string, allowed: number) {
  const host = new FakeHost({ devices: [{ address: NIC, group: 1, driver: 'e1000e' }, { address: DISK, group: 2, driver: 'nvme', disks: [{ name: 'nvme0n1', number: '259:0' }] }], mounts: [{ number: '259:0', at: '/' }] }, folder);
  host.addProcess(1, { uid: process.getuid!(), soft: allowed, hard: allowed });
  const script = 'while read -r line; do set -- $line; if [ "$1" = memlock ]; then cp -r "$0/proc/1" "$0/proc/$2"; echo "$line" >> "$0/asked"; fi; echo "$line"; done | "$HELPER" lease';
  const starter: Starter = { asks: true, start: () => spawn('/bin/sh', ['-c', script, host.root], { env: { VITRINE_TEST_ROOT: host.root, HELPER: join(folder, 'helper'), PATH: process.env.PATH }, stdio: 'pipe' }) };
  const library = new Library(join(host.root, 'machines'));
  const id = library.create({ name: 'With devices', memory: 64 * MiB, cpus: 1, boot: { kernel: 'fake:run' }, devices: [{ kind: 'vfio-pci', address }] });
  const files = { sys: host.path('sys'), dev: host.path('dev'), limits: ENOUGH };
  const options = { folder: library.folderOf(id), config: library.config(id), choice, env: { ...process.env, XDG_RUNTIME_DIR: folder }, entry, lease: { starter, files } };
  return { host, initial: host.snapshot(), options, files };
}

test('a machine holds its devices for as long as its process lives, however that ends', async () => {
  const { host, initial, options } = prepare(NIC, 2 ** 40);
  await startMachine(options);
  const { pid } = readRunInfo(options.folder)!;
  assert.equal(host.driverOf(NIC), 'vfio-pci');
  assert.equal(readFileSync(host.path('asked'), 'utf8'), `memlock ${pid} ${(64 + 128) * MiB}\n`);
  process.kill(pid, 'SIGKILL');
  await until('the host has it back', () => host.snapshot() === initial && host.journals().length === 0);
  await until('its folder is free', () => !isHeld(options.folder));
  host.remove();
});

test('a machine tied to its starter does not have its watcher hold the lease after it', async () => {
  const { host, initial, options } = prepare(NIC, 2 ** 40);
  let tether: Tether | undefined;
  await startMachine({ ...options, onTether: (made) => (tether = made) });
  assert.equal(host.driverOf(NIC), 'vfio-pci');
  process.kill(readRunInfo(options.folder)!.pid, 'SIGKILL');
  await until('the host has it back', () => host.snapshot() === initial && host.journals().length === 0);
  await until('its folder is free', () => !isHeld(options.folder));
  tether!.loose();
  host.remove();
});

test('what the host cannot give is said, noted as the machine\'s outcome, and nothing stays changed', async () => {
  for (const [address, allowed, code] of [[DISK, 2 ** 40, 'lease-mounted'], ['0000:00:1f.0', 2 ** 40, 'lease-no-device'], [NIC, 65536, 'lease-memory']] as const) {
    const { host, initial, options } = prepare(address, allowed);
    if (code === 'lease-memory') host.put('proc/meminfo', 'MemTotal: 1048576 kB\nMemAvailable: 65536 kB\n');
    await assert.rejects(startMachine(options), (error) => error instanceof VitrineError && error.problem.code === code);
    assert.equal(lastOutcome(options.folder)?.problem?.code, code);
    await until('the host is as it was', () => host.snapshot() === initial && host.journals().length === 0);
    assert.equal(isHeld(options.folder), false);
    host.remove();
  }
});

test('nobody is asked where everything is there already', { skip: process.getuid!() === 0 && 'an ordinary user\'s test: root may lock all memory' }, () => {
  const { host, options, files } = prepare(NIC, 2 ** 40);
  const { config } = options;
  assert.equal(needsLease({ ...config, devices: [] }, { ...files, limits: LITTLE }), false);
  assert.equal(needsLease(config, files), true);
  const bound = new FakeHost({ devices: [{ address: NIC, group: 1, driver: 'vfio-pci' }] }, folder);
  const there = { sys: bound.path('sys'), dev: bound.path('dev'), limits: ENOUGH };
  assert.equal(needsLease(config, there), true); // its node is not ours to write to
  bound.put('dev/vfio/2', '');
  rmSync(bound.path('dev/vfio/1'));
  bound.put('dev/vfio/1', '');
  assert.deepEqual([needsLease(config, there), needsLease(config, { ...there, limits: LITTLE })], [false, true]);
  host.remove();
  bound.remove();
});

test('a device added to a running machine goes back when the machine has closed it, and at once when it was not added', async () => {
  for (const ends of ['added', 'refused'] as const) {
    const { host, initial, options } = prepare(NIC, 2 ** 40);
    const { pid } = process;
    // The machine opens the device's group, or does not.
    const call = async (method: string): Promise<{ slot: number; told: boolean }> => {
      assert.equal(method, 'addDevice');
      assert.equal(host.driverOf(NIC), 'vfio-pci');
      assert.equal(readFileSync(host.path('asked'), 'utf8'), `memlock ${pid} ${(64 + 128) * MiB}\n`);
      if (ends === 'refused') throw new VitrineError({ attempted: 'add the device', on: NIC, why: 'it does not answer.', remedy: '', code: 'device-gone' });
      host.put('busy/1', '');
      return { slot: 4, told: true };
    };
    const connection = { client: { call } } as unknown as MachineConnection;
    const added = addDeviceTo(connection, { id: 'm', pid, memory: 64 * MiB, backend: 'kvm' }, { kind: 'vfio-pci', address: NIC }, options.lease);
    if (ends === 'refused') {
      await assert.rejects(added, (error) => error instanceof VitrineError && error.problem.code === 'device-gone');
      assert.deepEqual(host.journals(), []);
    } else {
      assert.deepEqual(await added, { slot: 4, told: true });
      await until('the helper waits, and nobody else may open the group', () => host.log().filter((line) => line.startsWith('owner 1 ')).length === 2);
      assert.equal(host.driverOf(NIC), 'vfio-pci');
      rmSync(host.path('busy/1'));
      await until('the host has it back', () => host.journals().length === 0);
    }
    assert.equal(host.snapshot(), initial);
    host.remove();
  }
});

test('a machine in the lab, and one that gets a device of another kind, take nothing from this host', async () => {
  const { host, initial, options } = prepare(NIC, 2 ** 40);
  const connection = { client: { call: async () => ({ slot: 4, told: false }) } } as unknown as MachineConnection;
  await addDeviceTo(connection, { id: 'm', pid: 1, memory: 64 * MiB, backend: 'lab' }, { kind: 'vfio-pci', address: NIC }, options.lease);
  await addDeviceTo(connection, { id: 'm', pid: 1, memory: 64 * MiB, backend: 'kvm' }, { kind: 'pci-test' }, options.lease);
  assert.deepEqual([host.snapshot(), host.log()], [initial, []]);
  host.remove();
});
