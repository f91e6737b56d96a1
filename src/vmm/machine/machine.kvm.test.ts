// A whole machine on KVM with freestanding guests: starting, the screen, keys, pausing, resetting, every way to end.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import { machineConfig, type MachineConfig } from '../../shared/machine-config.ts';
import { decodeFrame } from '../../shared/protocol/frames.ts';
import type { Outcome } from '../../shared/protocol/machine.ts';
import { folder, said, tinyGuest, until } from '../testing/whole-machine.ts';
import { Machine } from './machine.ts';
import { LOST } from './register-dump.ts';

const guest = (name: string): string => join(import.meta.dirname, '../../../build/guests', `${name}.elf`);
const KEY_Q = 16;
const KEY_SPACE = 57;

function config(kernel: string, append = '', more: Partial<v.InferInput<typeof machineConfig>> = {}): MachineConfig {
  return v.parse(machineConfig, { version: 1, id: 'test', name: 'Test', memory: 64 * 2 ** 20, cpus: 1, boot: { kernel, append }, testDevices: true, ...more });
}

// mov dx, 0x3fd; in al, dx; test al, 1; jz back; mov dx, 0x3f8; in al, dx; out dx, al; jmp begin
const ECHO = [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xef];

// mov ebx, 0x200000; inc dword [ebx]; cmp dword [ebx], 1; jne ECHO; mov dx, 0xcf9; mov al, 6; again: out dx, al; jmp again
const RESET_AGAIN_AND_AGAIN = [0xbb, 0x00, 0x00, 0x20, 0x00, 0xff, 0x03, 0x83, 0x3b, 0x01, 0x75, 0x09, 0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xeb, 0xfd];

async function start(...wanted: Parameters<typeof config>): Promise<Machine> {
  const machine = new Machine({ config: config(...wanted), backend: 'kvm' });
  await machine.start();
  return machine;
}

async function picture(machine: Machine): Promise<string> {
  return Buffer.from((await machine.screenshot()).png).toString('base64');
}

describe('a machine on KVM', () => {
  it('runs the self-test guest on 1 and on 4 CPUs, with and without a display', async () => {
    for (const more of [{}, { cpus: 4 }, { display: { kind: 'none' as const } }]) {
      const machine = await start(guest('selftest'), '', more);
      const outcome = await machine.ended;
      assert.doesNotMatch(said(machine), /FAIL/);
      assert.deepEqual([outcome.how, outcome.exitCode], ['debug-exit', 1], `${outcome.problem?.why ?? ''}\n${said(machine)}`);
    }
  });

  it('shows a picture that moves, hears a key, and is powered off by its guest', async () => {
    const machine = await start(guest('demo'));
    assert.deepEqual(machine.facts.value.screen, { width: 1280, height: 800 });
    const first = await picture(machine);
    await until('the picture changes', async () => (await picture(machine)) !== first);
    machine.key(KEY_Q, true);
    machine.key(KEY_Q, false);
    assert.equal((await machine.ended).how, 'powered-off');
  });

  it('resets once for a guest that asks until it is done', async () => {
    const machine = await start(tinyGuest('reset', [...RESET_AGAIN_AND_AGAIN, ...ECHO]));
    await until('the reset', () => machine.facts.value.resets > 0);
    await machine.serialWrite(Buffer.from('x'), new AbortController().signal);
    await until('the guest runs again', () => said(machine).includes('x'));
    assert.equal(machine.facts.value.resets, 1);
    await machine.forceOff();
  });

  it('sends frames to a viewer, and none when nothing changes', async () => {
    const machine = await start(guest('demo'));
    const frames: Uint8Array[] = [];
    let acknowledge = true;
    const viewer = machine.attachViewer({
      id: 'v1',
      buffered: () => 0,
      send: (frame) => {
        frames.push(frame);
        if (acknowledge) setImmediate(() => viewer.acknowledge(decodeFrame(Uint8Array.from(frame))!.seq));
      },
    });
    await until('five frames', () => frames.length >= 5);
    machine.key(KEY_SPACE, true);
    machine.key(KEY_SPACE, false);
    // Quiet: no frame for half a second, which is what a guest that halted sends.
    let seen = -1;
    await until('the frames stop', async () => {
      const before = frames.length;
      await sleep(500);
      seen = frames.length;
      return seen === before;
    });
    acknowledge = false;
    viewer.detach();
    await machine.forceOff();
    assert.equal((await machine.ended).how, 'forced');
  });

  it('stands still while paused and goes on afterwards', async () => {
    const machine = await start(guest('demo'));
    await until('the first picture', async () => (await picture(machine)).length > 0);
    for (let round = 0; round < 5; round++) {
      await machine.pause();
      assert.equal(machine.facts.value.state, 'paused');
      const still = await picture(machine);
      await sleep(100);
      assert.equal(await picture(machine), still);
      await machine.resume();
      await until('it moves again', async () => (await picture(machine)) !== still);
    }
    await machine.forceOff();
    await machine.ended;
  });

  it('begins anew when it is reset, running or paused', async () => {
    const machine = await start(guest('demo'), '', { cpus: 2 });
    const greeting = /Vitrine framebuffer demo/g;
    await until('the greeting', () => said(machine).match(greeting)?.length === 1);
    await machine.reset();
    await until('the second greeting', () => said(machine).match(greeting)?.length === 2);
    await machine.pause();
    await machine.reset();
    await until('the third greeting', () => said(machine).match(greeting)?.length === 3);
    assert.equal(machine.facts.value.resets, 2);
    await machine.forceOff();
    await machine.ended;
  });

  it('says why it cannot start, and leaves nothing behind', async () => {
    const empty = join(folder, 'empty');
    const text = join(folder, 'text');
    writeFileSync(empty, '');
    writeFileSync(text, 'This is no kernel. '.repeat(500));
    const cases: [MachineConfig, string][] = [
      [config(join(folder, 'missing')), 'kernel-missing'],
      [config(empty), 'kernel-empty'],
      [config(text), 'kernel-unrecognised'],
      [config(guest('demo'), '', { boot: { kernel: guest('demo'), initrd: join(folder, 'missing') } }), 'initrd-missing'],
      [config(guest('demo'), '', { memory: 2 ** 40 }), 'too-much-memory'],
    ];
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    const before = descriptors();
    for (const [wanted, code] of cases) {
      const machine = new Machine({ config: wanted, backend: 'kvm' });
      await machine.start();
      const outcome: Outcome = await machine.ended;
      assert.deepEqual([outcome.how, outcome.problem?.code], ['failed', code]);
      assert.equal(machine.facts.value.state, 'ended');
    }
    await until('every descriptor is closed', () => descriptors() <= before);
  });

  it('ends with words when its guest crashes for good', async () => {
    const machine = await start(tinyGuest('crash', [0xff, 0xff]));
    const outcome = await machine.ended;
    assert.deepEqual([outcome.how, outcome.problem?.code], ['failed', 'guest-crash']);
    const lines = machine.log.backlog().map(({ text: line }) => line);
    assert.ok(lines.some((line) => /rip 0{8}00100020/.test(line)) || (lines.includes(LOST) && lines.some((line) => /rip 0{12}fff0/.test(line))), 'the registers are in the log, or that they are lost');
  });

  it('resets or ends when the guest writes the reset register, as its file says', async () => {
    // mov dx, 0xcf9; mov al, 6; out dx, al; jmp $
    const guestThatResets = tinyGuest('reset', [0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xeb, 0xfe]);
    const stops = await start(guestThatResets, '', { onReset: 'stop' });
    assert.equal((await stops.ended).how, 'reset');
    const restarts = await start(guestThatResets, '', { onReset: 'restart' });
    await until('ten resets', () => restarts.facts.value.resets >= 10);
    await restarts.forceOff();
    assert.equal((await restarts.ended).how, 'forced');
  });

  it('ends when every CPU has halted for good, if it was asked to', async () => {
    const machine = await start(tinyGuest('halt', [0xfa, 0xf4, 0xeb, 0xfc]), '', { exitOnHalt: true, cpus: 2 }); // cli; hlt; jmp hlt
    assert.equal((await machine.ended).how, 'halted');
  });

  it('says how a guest ended it by the debug exit port', async () => {
    const machine = await start(tinyGuest('exit', [0xb0, 0x15, 0xe6, 0xf4, 0xeb, 0xfe])); // mov al, 0x15; out 0xf4, al
    const outcome = await machine.ended;
    assert.deepEqual([outcome.how, outcome.exitCode], ['debug-exit', 0x2b]);
  });

  it('runs 32 CPUs, and memory from 64 MiB to 6 GiB', async () => {
    for (const more of [{ cpus: 32 }, { memory: 512 * 2 ** 20 }, { memory: 6 * 2 ** 30, cpus: 2 }]) {
      const machine = await start(guest('selftest'), '', more);
      const outcome = await machine.ended;
      assert.deepEqual([outcome.how, outcome.exitCode], ['debug-exit', 1], `${outcome.problem?.why ?? ''}\n${said(machine)}`);
    }
  });

  it('gives the serial port what is written to it, in order', async () => {
    const machine = await start(tinyGuest('echo', ECHO));
    await machine.serialWrite(Buffer.from('hello, guest'), new AbortController().signal);
    await until('the echo', () => said(machine) === 'hello, guest');
    await machine.forceOff();
    await machine.ended;
  });

  it('has built guests to run', () => {
    for (const name of ['demo', 'selftest']) assert.ok(existsSync(guest(name)), `${name} is built by set-up`);
  });
});
