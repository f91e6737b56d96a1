// Giving devices as the wizard does, on a real kernel: a front in the lab, of an ordinary user, plans and gives a network card, a drive and a card
// of two functions in one group, by the real helper that real polkit permits or refuses; a machine that has two of them is killed. Each time
// the computer's own drivers must have the devices again, and work.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { buildApp } from '../../scripts/setup/build.mjs';
import type { GiveChoice } from '../../src/shared/passthrough.ts';
import { VitrineError } from '../../src/shared/errors.ts';
import { buildFront, LabFront } from './support/lab-front.ts';
import { top } from './support/lab-machine.ts';
import { LeaseLab, NIC } from './support/lease-lab.ts';

const NVME = '0000:00:06.0';
const PAIR = ['0000:01:00.0', '0000:01:00.1'];
const OWN: Record<string, string> = { [NIC]: 'e1000e', [NVME]: 'nvme', [PAIR[0]!]: 'e1000', [PAIR[1]!]: 'e1000' };
const MiB = 2 ** 20;
/** What an ordinary user may lock, in KiB: as most distributions have it. */
const MEMLOCK = 8192;
/** In the lab: neither shared with the host nor slow. */
const LIBRARY = '/dev/shm/machines';
const MACHINE = '^[^ ]*/node .*out/main/machine\\.js';

const noPkexec = !fs.existsSync('/usr/bin/pkexec') && 'pkexec is not installed';
const skip = noPkexec || (process.env.VITRINE_LONG !== '1' && 'in the long run alone');

describe('devices that a front gives to machines', { skip }, () => {
  let host: LeaseLab;
  let front: LabFront;
  let id: string;
  let groups: Record<string, string>;

  before(async () => {
    await buildApp();
    await buildFront();
    host = await LeaseLab.start({ kernel: '6.12', iommu: 'intel', devices: ['e1000e', 'nvme', 'e1000-pair'] });
    await host.sh('modprobe e1000');
    await host.startPolkit();
    await host.decide('polkit.Result.YES');
    front = await LabFront.open(host.lab, LIBRARY, MEMLOCK);
    ({ id } = await front.call('createMachine', {
      name: 'Router', memory: 64 * MiB, cpus: 1, boot: { kernel: path.join(top, 'build/guests/demo.elf'), append: 'idle' },
    }));
    const { devices } = await front.value('devices');
    groups = Object.fromEntries(Object.keys(OWN).map((address) => [address, devices[address]!.group]));
  });

  after(() => host?.lab.stop());

  const choice = (addresses: string[], mode: GiveChoice['mode']): GiveChoice => ({ id, groups: [...new Set(addresses.map((address) => groups[address]!))], mode, roms: {} });
  const drivers = async (): Promise<string[]> => (await host.sh(`for a in ${Object.keys(OWN).join(' ')}; do basename "$(readlink /sys/bus/pci/devices/$a/driver || echo none)"; done`)).split('\n');
  const devicesInFile = async (): Promise<string[]> => ((JSON.parse(await host.sh(`cat ${LIBRARY}/${id}/machine.json`)) as { devices?: { address: string }[] }).devices ?? []).map(({ address }) => address);
  const given = async (): Promise<string[]> => (await front.value('leases')).given.map(({ address, how, driver, machine }) => [address, how, driver, machine?.name].join(' '));

  /** Gives as the wizard does: what was shown, and no other. */
  async function give(addresses: string[], mode: GiveChoice['mode']): Promise<void> {
    const plan = await front.call('planDevices', choice(addresses, mode));
    assert.equal(plan.problem, undefined);
    await front.call('giveDevices', { ...choice(addresses, mode), digest: plan.digest });
  }

  /** The computer's drivers have all of them, and they work: frames go both ways, and the drive can be written and read. */
  async function allWork(): Promise<void> {
    await host.until('no lease is left', '! ls /run/vitrine/lease.* 2>/dev/null');
    assert.deepEqual(await drivers(), Object.values(OWN));
    // By their addresses: the kernel gives names in the order in which the cards come back, and here is no udev.
    for (const address of [NIC, ...PAIR]) {
      await host.until('the card is there', `ls /sys/bus/pci/devices/${address}/net 2>/dev/null | grep -q eth`);
      await host.sh(`i=$(ls /sys/bus/pci/devices/${address}/net); /run/lab/busybox ip link set $i up; /run/lab/busybox udhcpc -i $i -n -q -t 20 -T 1 -s /bin/true`);
    }
    await host.until('the drive is there', '[ -b /dev/nvme0n1 ]');
    await host.sh('dd if=/dev/urandom of=/dev/shm/a bs=64k count=4 2>/dev/null; dd if=/dev/shm/a of=/dev/nvme0n1 bs=64k oflag=direct 2>/dev/null; dd if=/dev/nvme0n1 bs=64k count=4 iflag=direct 2>/dev/null | cmp - /dev/shm/a');
  }

  const refused = (code: string) => (thrown: unknown): boolean => thrown instanceof VitrineError && thrown.problem.code === code;

  it('a group of two functions goes whole, with a card and a drive, and all come back', async () => {
    const plan = await front.call('planDevices', choice([NIC, NVME, PAIR[0]!], 'kept'));
    assert.deepEqual([plan.problem, plan.permission, plan.devices.toSorted()], [undefined, 'password', Object.keys(OWN)]);
    assert.deepEqual(plan.steps.map(({ what, addresses }) => [what, ...addresses]), [
      ['machine', ...plan.devices],
      ...[[NIC], [NVME]].flatMap((each) => [['unbind', ...each], ['bind', ...each]]), ...PAIR.map((address) => ['unbind', address]), ['bind', ...PAIR],
      ['memlock', ...plan.devices],
    ]);
    // All of the group, or none of it: its other function is what the machine would not have.
    await give(Object.keys(OWN), 'kept');
    assert.deepEqual(await drivers(), Object.keys(OWN).map(() => 'vfio-pci'));
    assert.deepEqual((await devicesInFile()).toSorted(), Object.keys(OWN));
    assert.deepEqual(await given(), Object.entries(OWN).map(([address, driver]) => `${address} kept ${driver} Router`));
    await assert.rejects(front.call('takeDevices', { id, addresses: ['0000:00:07.0'] }), refused('no-such-device'));
    await front.call('takeDevices', { id, addresses: Object.keys(OWN) });
    assert.deepEqual([await devicesInFile(), await given()], [[], []]);
    await allWork();
  });

  it('what a person does not allow is not done, neither when they are given nor at the machine\'s start', async () => {
    const addresses = [NIC, ...PAIR];
    for (const [code, result] of [['lease-dismissed', 'polkit.Result.AUTH_ADMIN'], ['lease-denied', 'polkit.Result.NO']]) {
      await host.decide(result!);
      const agent = await front.dismissQuestions(host.lab);
      await assert.rejects(give(addresses, 'kept'), refused(code!));
      assert.deepEqual([await devicesInFile(), await given(), await drivers()], [[], [], Object.values(OWN)]);
      // To have it at its start needs nobody's permission yet.
      await give(addresses, 'start');
      await assert.rejects(front.call('startMachine', { id }), refused(code!));
      assert.deepEqual([(await devicesInFile()).length, await given(), await drivers()], [3, [], Object.values(OWN)]);
      await front.call('takeDevices', { id, addresses });
      assert.equal((await agent.stop()).length, code === 'lease-dismissed' ? 2 : 0);
    }
    await host.decide('polkit.Result.YES');
    assert.equal(await host.sh(`ls ${LIBRARY}/${id} | grep giving || true`), '');
    await allWork();
  });

  it('the machine that has two of them is killed', async () => {
    await give([NIC, NVME], 'start');
    assert.deepEqual(await drivers(), Object.values(OWN));
    await front.call('startMachine', { id });
    assert.deepEqual(await drivers(), ['vfio-pci', 'vfio-pci', 'e1000', 'e1000']);
    assert.deepEqual(await given(), [NIC, NVME].map((address) => `${address} held ${OWN[address]} Router`));
    await host.sh(`kill -9 ${await host.processes(MACHINE)}`);
    await allWork();
    await front.call('takeDevices', { id, addresses: [NIC, NVME] });
  });
});
