// PCI devices that come and go in a running machine on KVM. The guest does by hand what a system's ACPI methods would: it reads the hot-plug
// controller's ports, places and reads the device in slot 5, and gives it back when it is asked to.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import * as v from 'valibot';
import { VitrineError } from '../../shared/errors.ts';
import { deviceConfig } from '../../shared/machine-config.ts';
import { said, started, testConfig, tinyGuest, until } from '../testing/whole-machine.ts';
import { Machine } from './machine.ts';

const SLOT = 5;
const bytes = (text: string): number[] => [...Buffer.from(text.replaceAll(/\s/g, ''), 'hex')];

// 32-bit code: general purpose event 1 is enabled, "r" said; wait for UP, clear it; BAR 0 to 0xc8000000, memory decode on; say what is there; read from it until
// DOWN, clear it; write EJECT and wait until it is clear; say whether configuration space and BAR are all ones; again. It says "u" when the device that came answers at 0xc8000000, and reads from it until it is asked for it; then it gives it back and says
// "d" when nothing answers any more. "!" where that was not so.
const GUEST = bytes(`
  ba28060000 b002 ee baf8030000 b072 ee
  bac00c0000 ed 85c0 74fb ef
  baf80c0000 b810280080 ef b2fc b8000000c8 ef b2f8 b804280080 ef b2fc b802000000 ef
  baf8030000 b075 813d000000c856545354 7402 b021 ee
  bac40c0000 8b1d000800c8 ed 85c0 74f5 ef
  b2c8 ef ed 85c0 75fb
  baf80c0000 b800280080 ef b2fc ed 2305000000c8 40
  baf8030000 b064 7402 b021 ee eb80`);

const device = (more: Partial<v.InferInput<typeof deviceConfig>> = {}) => v.parse(deviceConfig, { kind: 'pci-test', slot: SLOT, ...more });
const code = (wanted: string) => (error: unknown): boolean => error instanceof VitrineError && error.problem.code === wanted;
const cooperative = { force: false, seconds: 60 };
const forced = { force: true, seconds: 0 };

async function begun(cpus: number): Promise<Machine> {
  const machine = await started(tinyGuest(`hotplug-${cpus}`, GUEST), { cpus });
  await until('the guest listens', () => said(machine) === 'r');
  return machine;
}

describe('hot-plug on KVM', () => {
  it('a device comes, is used and is given back, again and again, and leaves nothing behind', async () => {
    const machine = await begun(2);
    let expected = 'r';
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    let before = 0;
    for (let round = 0; round < 20; round++) {
      // One of several functions and sizes in between: what it had is not what the next has.
      const { slot, told } = await machine.addDevice(device(round % 4 === 3 ? { functions: 3, sharedMsix: true } : {}));
      assert.deepEqual([slot, told], [SLOT, true]);
      assert.equal(machine.listDevices().filter((each) => each.slot === SLOT).length, round % 4 === 3 ? 3 : 1);
      await until('the guest uses it', () => said(machine) === `${expected}u`);
      await machine.removeDevice(SLOT, cooperative);
      await until('the guest finds it gone', () => said(machine) === `${expected}ud`);
      expected += 'ud';
      assert.equal(machine.listDevices().some((each) => each.slot === SLOT), false);
      if (round === 3) before = descriptors();
    }
    assert.equal(descriptors(), before, 'no descriptor is left behind');
  });

  it('a device that is pulled out under a guest that reads it is gone, and the guest goes on', async () => {
    const machine = await begun(1);
    for (let round = 0; round < 10; round++) {
      await machine.addDevice(device());
      await until('the guest uses it', () => said(machine).length === 2 * round + 2);
      await machine.removeDevice(SLOT, forced);
      await machine.addDevice(device());
      await machine.removeDevice(SLOT, cooperative);
      await until('the guest finds it gone', () => said(machine).length === 2 * round + 3);
    }
    assert.equal(said(machine), `r${'ud'.repeat(10)}`);
  });

  it('comes while the machine is paused, and waits for the guest', async () => {
    const machine = await begun(4);
    await machine.pause();
    await machine.addDevice(device());
    assert.equal(said(machine), 'r');
    await assert.rejects(machine.removeDevice(SLOT, cooperative), code('paused'));
    await machine.resume();
    await until('the guest uses it', () => said(machine) === 'ru');
    await machine.pause();
    await machine.removeDevice(SLOT, forced);
    await machine.resume();
    assert.equal(machine.listDevices().some((each) => each.slot === SLOT), false);
  });

  it('says what cannot be', async () => {
    // cli; hlt: it never listens.
    const deaf = await started(tinyGuest('deaf', [0xfa, 0xf4, 0xeb, 0xfc]), { devices: [{ kind: 'pci-test', slot: 9 }] });
    assert.deepEqual(await deaf.addDevice(device()), { slot: SLOT, told: false });
    await assert.rejects(deaf.addDevice(device()), code('slot-taken'));
    await assert.rejects(deaf.removeDevice(9, cooperative), code('guest-does-not-listen'));
    await assert.rejects(deaf.removeDevice(31, cooperative), code('not-removable'));
    await assert.rejects(deaf.removeDevice(7, forced), code('no-such-device'));
    await deaf.removeDevice(9, forced);
    for (let slots = 1; slots < 29; slots++) await deaf.addDevice(device({ slot: undefined }));
    await assert.rejects(deaf.addDevice(device({ slot: undefined })), code('no-free-slot'));
    await deaf.forceOff();
    await assert.rejects(deaf.addDevice(device()), code('not-running'));

    // It listens, and does nothing: GPE enabled, "r", jmp $.
    const slow = await started(tinyGuest('slow', bytes('ba28060000 b002 ee baf8030000 b072 ee ebfe')));
    await until('the guest listens', () => said(slow) === 'r');
    assert.deepEqual(await slow.addDevice(device({ slot: 6 })), { slot: 6, told: true });
    await assert.rejects(slow.removeDevice(6, { force: false, seconds: 0.1 }), code('guest-does-not-respond'));
    const waiting = assert.rejects(slow.removeDevice(6, cooperative), code('not-running'));
    await slow.forceOff();
    await waiting;
  });

  it('is as before when one CPU\'s thread cannot build the device', async (t) => {
    const machine = new Machine({
      config: testConfig(tinyGuest('unwilling', GUEST), { cpus: 3 }), backend: 'kvm',
      vcpuEntry: join(import.meta.dirname, '../testing/unwilling-vcpu-worker.ts'),
    });
    t.after(() => machine.forceOff());
    await machine.start();
    await until('the guest listens', () => said(machine) === 'r');
    const before = machine.listDevices();
    const why = (error: unknown): boolean => code('device-not-built')(error) && /CPU 1: it has no room/.test((error as Error).message);
    for (let round = 0; round < 3; round++) await assert.rejects(machine.addDevice(device()), why);
    assert.deepEqual(machine.listDevices(), before);
    await machine.reset();
    await until('the guest lives on', () => said(machine) === 'rr');
  });

  it('a reset keeps what came, and takes what was asked for', async () => {
    const machine = await begun(2);
    await machine.addDevice(device({ slot: 6 }));
    await until('the guest looks for it', () => said(machine) === 'ru' || said(machine) === 'r!');
    await machine.addDevice(device({ slot: 7 }));
    const asked = machine.removeDevice(7, cooperative);
    await machine.reset();
    await asked;
    assert.deepEqual(machine.listDevices().filter(({ removable }) => removable).map(({ slot }) => slot), [6]);
    await machine.addDevice(device());
    await until('the guest uses it', () => said(machine).endsWith('u'));
  });

  it('devices come and go beside eight CPUs that move BARs and fire at them', async (t) => {
    const barfire = join(import.meta.dirname, '../../../build/guests/barfire.elf');
    const devices = Array.from({ length: 3 }, () => ({ kind: 'pci-test' as const }));
    const machine = await started(barfire, { cpus: 8, display: { kind: 'canvas' }, devices, boot: { kernel: barfire, append: 'moves=80' } });
    const go = (): Promise<void> => machine.serialWrite(Buffer.from('g'), new AbortController().signal);
    await until('the guest begins', () => said(machine).includes('barfire begins'));
    await go();
    let rounds = 0;
    for (; !said(machine).includes('barfire covered'); rounds++) {
      await machine.addDevice(device({ slot: 20, functions: 1 + (rounds % 3) }));
      await machine.removeDevice(20, forced);
    }
    for (const word of ['covered', 'painted', 'done']) {
      await until(`the guest has ${word}`, () => said(machine).includes(`barfire ${word}`));
      await go();
    }
    t.diagnostic(`${rounds} devices came and went`);
    const outcome = await machine.ended;
    assert.match(said(machine), /barfire done 0\r?\n/);
    assert.deepEqual([outcome.how, outcome.exitCode], ['debug-exit', 1]);
  });
});
