// What happens to a machine when people, its guest and its own threads want different things at once, and that it always ends with words.
import assert from 'node:assert/strict';
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { VitrineError } from '../../shared/errors.ts';
import { dword, folder, said, started, testConfig, tinyGuest, until } from '../testing/whole-machine.ts';
import { Machine } from './machine.ts';

const SPIN = [0xeb, 0xfe];
// mov dx, 0xcf9; mov al, 6; out dx, al; jmp to the out
const RESETS_FOR_EVER = [0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xeb, 0xfd];

const code = (expected: string) => (thrown: unknown): boolean => thrown instanceof VitrineError && thrown.problem.code === expected;

describe('a machine that several want something of', () => {
  it('does not begin when it was forced off before', async () => {
    const machine = new Machine({ config: testConfig(tinyGuest('spin', SPIN)), backend: 'kvm' });
    await machine.forceOff();
    const states: string[] = [];
    machine.facts.subscribe(({ state }) => states.push(state));
    await machine.start();
    assert.equal((await machine.ended).how, 'forced');
    assert.deepEqual(states, []);
  });

  it('is forced off while it starts, and never runs', async () => {
    const machine = new Machine({ config: testConfig(tinyGuest('spin', SPIN), { cpus: 2 }), backend: 'kvm' });
    const states: string[] = [];
    machine.facts.subscribe(({ state }) => states.push(state));
    const starting = machine.start();
    await Promise.all([machine.forceOff(), starting]);
    assert.equal((await machine.ended).how, 'forced');
    assert.ok(!states.includes('running'), states.join(' '));
    assert.equal(machine.facts.value.state, 'ended');
  });

  it('resolves every forceOff when it has ended, not before', async () => {
    const machine = await started(tinyGuest('spin', SPIN));
    void machine.forceOff();
    await machine.forceOff();
    assert.equal(machine.facts.value.state, 'ended');
  });

  it('ends with words when its threads cannot be made', async () => {
    const machine = new Machine({ config: testConfig(tinyGuest('spin', SPIN), { cpus: 4 }), backend: 'kvm', vcpuEntry: join(folder, 'missing.js') });
    await machine.start();
    const outcome = await machine.ended;
    assert.equal(outcome.how, 'failed');
    assert.match(outcome.problem!.why, /missing\.js/);
  });

  it('ends with words when the kernel is gone at a reset, and whoever asked is told', async () => {
    const kernel = join(folder, 'leaves');
    copyFileSync(tinyGuest('spin', SPIN), kernel);
    const machine = await started(kernel);
    rmSync(kernel);
    await assert.rejects(machine.reset(), code('kernel-missing'));
    const outcome = await machine.ended;
    assert.deepEqual([outcome.how, outcome.problem?.code], ['failed', 'kernel-missing']);
    await assert.rejects(machine.pause(), code('not-running'));
  });

  it('carries out one reset for many that the guest asked for, and stays paused when a person pauses it', async () => {
    const machine = await started(tinyGuest('resets', RESETS_FOR_EVER), { cpus: 1 });
    await until('some resets', () => machine.facts.value.resets >= 3);
    for (let round = 0; round < 5; round++) {
      await machine.pause();
      const { resets } = machine.facts.value;
      await sleep(50);
      assert.equal(machine.facts.value.state, 'paused');
      assert.equal(machine.facts.value.resets, resets, 'nothing that the guest asked for is done while it is paused');
      await machine.resume();
      await until('it goes on', () => machine.facts.value.resets > resets);
    }
    await machine.forceOff();
    assert.equal((await machine.ended).how, 'forced');
  });

  it('is reset once when several CPUs fail at once', async () => {
    // In its first life it starts the others, which fail; later it spins. RAM beyond the kernel survives a reset.
    const guest = tinyGuest('several', [
      0xff, 0x05, ...dword(0x200000), // inc dword [0x200000]
      0x66, 0xba, 0xf8, 0x03, 0xb0, 0x42, 0xee, // mov dx, 0x3f8; mov al, 'B'; out dx, al
      0x83, 0x3d, ...dword(0x200000), 1, 0x75, 50, // cmp dword [0x200000], 1; jne end
      0xc7, 0x05, ...dword(0x8000), ...dword(0x0001b866), // at 0x8000, in real mode: mov eax, 1; mov cr0, eax; mov ss, ax: the null descriptor, refused by every CPU; without an interrupt table
      0xc7, 0x05, ...dword(0x8004), ...dword(0x220f0000),
      0xc7, 0x05, ...dword(0x8008), ...dword(0x00d08ec0),
      0xc7, 0x05, ...dword(0xfee00300), ...dword(0x000c4500), // INIT to all others
      0xc7, 0x05, ...dword(0xfee00300), ...dword(0x000c4608), // SIPI to all others, at 0x8000
      ...SPIN,
    ]);
    const machine = await started(guest, { cpus: 6 });
    await until('the second life', () => said(machine) === 'BB' || machine.facts.value.state !== 'running');
    await sleep(100);
    assert.deepEqual([machine.facts.value.state, machine.facts.value.resets, said(machine)], ['running', 1, 'BB'], machine.log.backlog().map(({ text }) => text).join('\n'));
    await machine.forceOff();
    await machine.ended;
  });

  it('does what everybody wants at once, in some order, and ends', async () => {
    const machine = await started(tinyGuest('resets', RESETS_FOR_EVER), { cpus: 2 });
    const wishes: Promise<unknown>[] = [];
    for (let i = 0; i < 20; i++) {
      for (const wish of [machine.pause(), machine.reset(), machine.resume(), machine.powerButton()]) wishes.push(wish.catch((thrown: unknown) => assert.ok(thrown instanceof VitrineError)));
      if (i % 4 === 0) await sleep(1);
    }
    wishes.push(machine.forceOff());
    await Promise.all(wishes);
    assert.equal((await machine.ended).how, 'forced');
  });

  it('leaves a paused machine paused when its guest does not listen for the power button', async () => {
    const machine = await started(tinyGuest('spin', SPIN));
    await machine.pause();
    await assert.rejects(machine.powerButton(), code('no-power-button'));
    assert.equal(machine.facts.value.state, 'paused');
    await machine.forceOff();
    await machine.ended;
  });
});
