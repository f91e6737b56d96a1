// The host's devices on a real Linux with an IOMMU: what `vitrine devices --json` says of the lab's known devices to an ordinary user, and
// what the reader that pages are fed by tells root as disks are mounted, nodes opened and drivers changed.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import type { HostDevices } from '../../src/shared/host-devices.ts';
import { hostDevicesSchema } from '../../src/shared/host-devices.ts';
import { WebSocket } from 'ws';
import { startFront } from '../../src/main/front/front.ts';
import { Library } from '../../src/main/library/library.ts';
import { ProtocolClient } from '../../src/shared/protocol/client.ts';
import { frontProtocol } from '../../src/shared/protocol/front.ts';
import type { LabCommand } from '../client.ts';
import { startLab } from '../host.ts';
import type { LabHost } from '../host.ts';
import { nodeWords } from '../node-words.ts';
import { LAB_DEVICES } from '../options.ts';

const PATIENCE = 120_000;
const top = fileURLToPath(new URL('../..', import.meta.url));
const node = [process.execPath, ...nodeWords(true)];
const cli = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const entry = fileURLToPath(new URL('../../src/main/host-devices/main.ts', import.meta.url));
const NIC = '0000:00:05.0';

/** The reader, running in the lab. */
class Reader {
  readonly #command: LabCommand;
  #last: HostDevices | undefined;
  #waiting: (() => void) | undefined;
  said = '';

  constructor(command: LabCommand) {
    this.#command = command;
    createInterface({ input: command.stdout }).on('line', (line) => {
      this.#last = v.parse(hostDevicesSchema, JSON.parse(line));
      this.#waiting?.();
    });
    command.stderr.setEncoding('utf8').on('data', (text: string) => (this.said += text));
  }

  /** Asks anew, which makes it read everything at once. */
  ask(): void {
    this.#command.stdin.write('{"claims":[]}\n');
  }

  /** The first reading that is so. */
  async until(what: string, condition: (found: HostDevices) => boolean): Promise<HostDevices> {
    const deadline = Date.now() + PATIENCE;
    while (this.#last === undefined || !condition(this.#last)) {
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`it never came to this: ${what}. ${this.said}\n${JSON.stringify(this.#last)}`);
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
    return this.#last;
  }

  end(): Promise<unknown> {
    this.#command.stdin.end();
    return this.#command.exited;
  }
}

describe('the devices of a lab with an Intel IOMMU', () => {
  let lab: LabHost;
  before(async () => {
    lab = await startLab({ iommu: 'intel', devices: [...LAB_DEVICES] });
  });
  after(() => lab.stop());

  async function watch(user: 'user' | 'root'): Promise<Reader> {
    const reader = new Reader(await lab.start([...node, entry], { cwd: top, user }));
    reader.ask();
    return reader;
  }

  async function root(script: string): Promise<void> {
    const { code, stderr } = await lab.run(['sh', '-ec', script], { cwd: '/', timeout: PATIENCE, user: 'root' });
    assert.equal(code, 0, stderr);
  }

  it('knows each, its group, its driver and who uses it, as an ordinary user', async () => {
    const { stdout, stderr, code } = await lab.run([...node, cli, 'devices', '--json'], { cwd: top, timeout: PATIENCE, env: { XDG_DATA_HOME: '/dev/shm/data' } });
    assert.equal(code, 0, stderr);
    const found = v.parse(hostDevicesSchema, JSON.parse(stdout));
    assert.equal(found.on, 'lab');
    const { iommu } = found;
    assert.deepEqual([iommu?.on, iommu?.kind, iommu?.interruptRemapping, iommu?.tables], [true, 'intel', 'yes', ['DMAR']], JSON.stringify(iommu));
    assert.deepEqual(found.findings.filter(({ severity }) => severity === 'refused'), []);
    const known: [string, string, string | undefined][] = [
      [NIC, 'network', 'e1000e'], ['0000:00:06.0', 'nvme', 'nvme'], ['0000:00:07.0', 'other', undefined],
      ['0000:00:08.0', 'usb', 'xhci_hcd'], ['0000:00:09.0', 'graphics', undefined], ['0000:00:0a.0', 'network', 'virtio-pci'],
    ];
    for (const [address, kind, driver] of known) {
      const device = found.devices[address];
      assert.ok(device, `${address} is not among ${Object.keys(found.devices).join(', ')}`);
      assert.equal(device.kind, kind, address);
      if (driver !== undefined) assert.equal(device.driver, driver, address);
      const group = found.groups[device.group];
      assert.deepEqual([group.number !== undefined, group.given, group.verdict === 'not-possible'], [true, [address], false], `${address}: ${group.sentence}`);
      assert.ok(device.bars.length > 0, address);
    }
    assert.equal(found.devices[NIC].verdict, 'ready');
    // The lab's only way out: without it the host would not hear from it again.
    const own = found.devices['0000:00:0f.0'];
    assert.equal(own.verdict, 'not-possible', own.sentence);
    assert.deepEqual(own.findings.find(({ code }) => code === 'host-needs-it')?.aspect, 'network');
  });

  it('tells as it happens: a disk mounted, a driver changed, a node opened and closed, and who may not open it', async () => {
    const reader = await watch('root');
    const first = await reader.until('the first reading', () => true);
    const drive = (found: HostDevices) => found.devices['0000:00:06.0'];
    const card = (found: HostDevices) => found.devices[NIC];
    // Root sees the whole configuration space.
    assert.ok(drive(first).findings.some(({ code }) => code === 'msix-shared-bar'), JSON.stringify(drive(first).findings));
    await root('mkfs.ext4 -q /dev/nvme0n1; mkdir -p /dev/shm/disk; mount /dev/nvme0n1 /dev/shm/disk');
    const mounted = await reader.until('the drive is mounted', (found) => drive(found).uses.length > 0);
    assert.deepEqual([drive(mounted).verdict, drive(mounted).sentence], ['not-possible', 'The folder /dev/shm/disk is on this.']);
    await root(`echo vfio-pci > /sys/bus/pci/devices/${NIC}/driver_override; echo ${NIC} > /sys/bus/pci/devices/${NIC}/driver/unbind; echo ${NIC} > /sys/bus/pci/drivers_probe`);
    const bound = await reader.until('vfio-pci has the card', (found) => card(found).onVfio);
    assert.deepEqual([card(bound).driverOverride, card(bound).verdict], ['vfio-pci', 'ready']);
    const node = `/dev/vfio/${card(bound).group}`;
    const holder = await lab.start(['sh', '-c', `exec 3<>${node}; echo open; exec sleep 1000`], { cwd: '/', user: 'root' });
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    reader.ask();
    const held = await reader.until('the node is open', (found) => card(found).verdict === 'not-possible');
    assert.deepEqual(card(held).findings.find(({ code }) => code === 'claimed')?.facts, { programs: ['sleep'] });
    holder.kill();
    await reader.until('the node is closed', (found) => card(found).verdict === 'ready');
    await reader.end();
    // The node is root's: the ordinary user is told.
    const other = await watch('user');
    const seen = await other.until('the ordinary user\'s reading', () => true);
    assert.equal(card(seen).findings.find(({ code }) => code === 'no-vfio-access')?.facts.path, node);
    await other.end();
  });
});

describe('lab mode', () => {
  it('shows the lab\'s devices through a front and in a terminal, and ends with whoever looks', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vhl-'));
    const runtime = join(folder, 'run');
    mkdirSync(runtime, { mode: 0o700 });
    const before = process.env['XDG_RUNTIME_DIR'];
    process.env['XDG_RUNTIME_DIR'] = runtime;   // a lab of this test's own
    const env = { ...process.env, XDG_DATA_HOME: folder, VITRINE_BACKEND: 'lab' };
    const library = new Library(join(folder, 'vitrine/machines'));
    const front = await startFront({ shell: 'browser', env, library });
    try {
      const socket = new WebSocket(`${front.address}/front?token=${front.token}`, { perMessageDeflate: false });
      const client = new ProtocolClient(frontProtocol, socket);
      socket.on('message', (data: Buffer) => client.receive(data.toString()));
      socket.on('close', () => client.closed());
      await new Promise((resolve) => socket.once('open', resolve));
      const found = await new Promise<HostDevices>((resolve, reject) => {
        client.watch('devices', (value) => {
          // The drivers of the shared lab come after it is up.
          if (value.state === 'ready' && value.devices[NIC]?.driver !== undefined) resolve(value);
          else if (value.problem !== undefined) reject(new Error(JSON.stringify(value.problem)));
        }, (problem) => reject(new Error(problem.why)));
      });
      assert.deepEqual([found.on, found.iommu?.on, found.devices[NIC].driver], ['lab', true, 'e1000e']);
      const terminal = await new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
        execFile(process.execPath, ['--disable-warning=ExperimentalWarning', cli, 'devices', '00:05.0', '--lab'], { env, timeout: PATIENCE }, (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }));
      });
      assert.equal(terminal.code, 0, terminal.stderr);
      assert.match(terminal.stdout, /^82574L Gigabit Network Connection \(0000:00:05\.0\): ready|^Intel network card/);
      client.close();
    } finally {
      await front.close();
      // Nobody looks any more: the lab's endpoint goes with it.
      while (readdirSync(join(runtime, 'vitrine')).some((name) => name.startsWith('lab-'))) await new Promise((resolve) => setTimeout(resolve, 100));
      if (before === undefined) delete process.env['XDG_RUNTIME_DIR'];
      else process.env['XDG_RUNTIME_DIR'] = before;
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
