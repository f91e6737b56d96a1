// A virtio device in a machine on KVM, with a driver that moves its BAR between every two requests: notifications arrive by ioeventfds that move along, and
// the I/O Worker stops and goes on with the machine.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { said, started, until } from '../testing/whole-machine.ts';

const guest = join(import.meta.dirname, '../../../build/guests/virtio.elf');
const REQUESTS = process.env['VITRINE_LONG'] === '1' ? 20_000 : 200;

describe('virtio on KVM', () => {
  it('answers every request while its BAR moves and it is reset, and stops with the machine', async () => {
    const machine = await started(guest, { devices: [{ kind: 'virtio-rng' }], boot: { kernel: guest, append: `requests=${REQUESTS}` } });
    await until('the guest is done', () => machine.facts.value.outcome !== undefined);
    assert.match(said(machine), new RegExp(`virtio done ${REQUESTS} `), said(machine));
    assert.deepEqual([machine.facts.value.outcome!.how, machine.facts.value.outcome!.exitCode], ['debug-exit', 1]);
    await machine.ended;
    assert.equal(machine.threadsLeft, 0);
  });

  it('stands still while the machine is paused, and begins anew when it is reset', async () => {
    const machine = await started(guest, { devices: [{ kind: 'virtio-rng' }], boot: { kernel: guest, append: 'linger' } });
    await until('it begins', () => said(machine).includes('virtio begins'));
    for (let i = 0; i < 5; i++) {
      await sleep(20);
      await machine.pause();
      assert.equal(machine.facts.value.state, 'paused');
      if (i % 2 === 1) await machine.reset();
      else await machine.resume();
    }
    await until('it has begun again', () => said(machine).match(/virtio begins/g)?.length === 3);
    await machine.serialWrite(Buffer.from('x'), new AbortController().signal);
    await until('the guest is done', () => machine.facts.value.outcome !== undefined);
    assert.match(said(machine), /virtio done \d+ /);
    assert.doesNotMatch(said(machine), /wrong/);
  });

  it('a device that comes while the guest runs, and goes, takes its Worker along', async () => {
    const machine = await started(guest, { devices: [{ kind: 'virtio-rng' }], boot: { kernel: guest, append: 'linger' } });
    await until('it begins', () => said(machine).includes('virtio begins'));
    for (let i = 0; i < 3; i++) {
      const { slot } = await machine.addDevice({ kind: 'virtio-rng', rings: 'packed' });
      assert.equal(machine.listDevices().find((each) => each.slot === slot)?.kind, 'virtio-rng');
      await machine.removeDevice(slot, { force: true, seconds: 1 });
    }
    // The one that the guest works: its driver is left alone with its request.
    const { slot } = machine.listDevices().find(({ kind }) => kind === 'virtio-rng')!;
    await machine.removeDevice(slot, { force: true, seconds: 1 });
    await until('the guest misses it', () => machine.facts.value.outcome !== undefined);
    assert.match(said(machine), /virtio wrong: /, 'wherever it was just then');
  });
});
