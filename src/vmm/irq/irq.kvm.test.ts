// Interrupts under KVM: lines that functions share, irqfd, irqfd with resample, MSI through a route and by signal. What arrived is read from the
// local APIC (IRR), and for the level-triggered ones the guest takes the interrupt and ends it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KVM_IRQCHIP_IOAPIC } from '../kvm/ioctls.ts';
import { close, eventfd, signalEventfd, takeEventfd } from '../kvm/libc.ts';
import { Arena } from '../sync/arena.ts';
import { tinyMachine, type TinyMachine } from '../testing/tiny-machine.ts';
import { IrqLines } from './irq-lines.ts';
import { chipRoutes, GsiRouting } from './routing.ts';

const VECTOR = 0x51;
const GSI = 11;
const MSI_ADDRESS = 0xfee0_0000;
const LAPIC_SVR = 0xf0;
const LAPIC_IRR = 0x200;
const IOAPIC_REDIRECTION = 8 + 24; // in kvm_irqchip: header, then kvm_ioapic_state's 24 bytes before its table
const LEVEL = 1 << 15;

const SPIN = [0xeb, 0xfe];
const HANDLER = 0x3000;
// Real mode, because some KVMs interpret ring 0 and deliver interrupts there and in 64-bit mode only. sti; jmp $
const TAKES_INTERRUPTS = [0xfb, ...SPIN];
// out 0x80, al; mov dword [0xfee000b0], 0 (end of interrupt; the data segment reaches that far); iret
const ENDS_INTERRUPT = [0xe6, 0x80, 0x67, 0x66, 0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, 0xcf];

/** 16-bit code at the same place, data segments of 4 GiB. */
function realMode(machine: TinyMachine): void {
  const sregs = machine.vcpus[0]!.getSregs();
  const view = new DataView(sregs.buffer);
  for (let i = 0; i < 6; i++) {
    view.setUint16(i * 24 + 12, 0, true);
    view.setUint8(i * 24 + 17, 0); // 16 bits
    if (i === 0) view.setUint32(8, 0xffff, true);
  }
  view.setBigUint64(208, 0n, true); // the interrupt table at 0
  view.setUint16(216, 0x3ff, true);
  view.setBigUint64(224, 0n, true);
  machine.vcpus[0]!.setSregs(sregs);
}

function enableLapic(machine: TinyMachine): void {
  const state = machine.vcpus[0]!.getLapic();
  new DataView(state.buffer).setUint32(LAPIC_SVR, 0x1ff, true);
  machine.vcpus[0]!.setLapic(state);
}

/** Whether VECTOR waits in the local APIC. No vCPU runs. */
function pending(machine: TinyMachine): boolean {
  const state = new DataView(machine.vcpus[0]!.getLapic().buffer);
  return (state.getUint32(LAPIC_IRR + (VECTOR >> 5) * 16, true) & (1 << (VECTOR & 31))) !== 0;
}

function routePin(machine: TinyMachine, flags: number, pin = GSI): void {
  const chip = machine.vm.getIrqchip(KVM_IRQCHIP_IOAPIC);
  const view = new DataView(chip.buffer);
  view.setUint32(IOAPIC_REDIRECTION + pin * 8, VECTOR | flags, true);
  view.setUint32(IOAPIC_REDIRECTION + pin * 8 + 4, 0, true);
  machine.vm.setIrqchip(chip);
}

async function until(machine: TinyMachine, condition: () => boolean): Promise<void> {
  const end = Date.now() + 30_000;
  while (!condition()) {
    assert.deepEqual(machine.stops, []);
    assert.ok(Date.now() < end, 'waited in vain');
    await sleep(1);
  }
}

async function withMachine(code: readonly number[], body: (machine: TinyMachine) => Promise<void> | void): Promise<void> {
  const machine = await tinyMachine(code);
  try {
    enableLapic(machine);
    await body(machine);
  } finally {
    await machine.end();
  }
}

test('an eventfd wired to a GSI raises its interrupt', () =>
  withMachine(SPIN, async (machine) => {
    routePin(machine, 0);
    const fd = eventfd();
    machine.vm.irqfd(fd, GSI);
    assert.equal(pending(machine), false);
    signalEventfd(fd);
    await until(machine, () => pending(machine));
    machine.vm.irqfd(fd, GSI, { remove: true });
    close(fd);
  }));

test('a message reaches the processor by signal, and by an eventfd through a route that may change', () =>
  withMachine(SPIN, async (machine) => {
    assert.ok(machine.vm.signalMsi(MSI_ADDRESS, VECTOR));
    assert.ok(pending(machine));

    const routing = new GsiRouting(new Arena(), (routes) => machine.vm.setRouting(routes));
    const gsi = routing.allocate(MSI_ADDRESS, VECTOR - 1);
    assert.ok(gsi >= 24);
    const fd = eventfd();
    machine.vm.irqfd(fd, gsi);
    routing.update(gsi, MSI_ADDRESS, VECTOR + 1);
    signalEventfd(fd);
    const irr = (vector: number): boolean => (new DataView(machine.vcpus[0]!.getLapic().buffer).getUint32(LAPIC_IRR + (vector >> 5) * 16, true) & (1 << (vector & 31))) !== 0;
    await until(machine, () => irr(VECTOR + 1));
    assert.equal(irr(VECTOR - 1), false, 'the old message is never sent');
    routing.free(gsi);
    close(fd);
  }));

test('with resample, the guest\'s end of interrupt is told, and the line goes down until it is raised again', () =>
  withMachine(TAKES_INTERRUPTS, async (machine) => {
    new Uint8Array(machine.ram.buffer, HANDLER, ENDS_INTERRUPT.length).set(ENDS_INTERRUPT);
    new DataView(machine.ram.buffer, 0, 0x400).setUint32(VECTOR * 4, HANDLER, true);
    realMode(machine);
    routePin(machine, LEVEL);
    const trigger = eventfd();
    const resample = eventfd();
    machine.vm.irqfd(trigger, GSI, { resample });
    machine.start();
    for (let round = 1; round <= 3; round++) {
      signalEventfd(trigger);
      await until(machine, () => takeEventfd(resample) > 0);
      assert.equal(machine.counts[0], round, 'one interrupt for one signal');
    }
    assert.deepEqual(machine.stops, []);
    close(trigger);
    close(resample);
  }));

test('a pin that arrives by irqfd has a GSI of its own, which hears the end of interrupt; two devices share it', () =>
  withMachine(TAKES_INTERRUPTS, async (machine) => {
    new Uint8Array(machine.ram.buffer, HANDLER, ENDS_INTERRUPT.length).set(ENDS_INTERRUPT);
    new DataView(machine.ram.buffer, 0, 0x400).setUint32(VECTOR * 4, HANDLER, true);
    realMode(machine);
    routePin(machine, LEVEL, 16 + 1);
    const routing = new GsiRouting(new Arena(), (routes) => machine.vm.setRouting(routes));
    routing.routePin(1, 10);
    const gsi = routing.takePin(1);
    assert.equal(routing.takePin(1), gsi);
    const pairs = [0, 1].map(() => ({ trigger: eventfd(), resample: eventfd() }));
    for (const { trigger, resample } of pairs) machine.vm.irqfd(trigger, gsi, { resample });
    machine.start();
    for (const { trigger } of [...pairs, ...pairs]) {
      signalEventfd(trigger);
      for (const { resample } of pairs) await until(machine, () => takeEventfd(resample) > 0);
    }
    assert.equal(machine.counts[0], 4);
    routing.routePin(1, 0);
    signalEventfd(pairs[0]!.trigger);
    await until(machine, () => takeEventfd(pairs[1]!.resample) > 0);
    for (const { trigger, resample } of pairs) {
      machine.vm.irqfd(trigger, gsi, { remove: true });
      routing.releasePin(1);
      close(trigger);
      close(resample);
    }
    assert.deepEqual(machine.stops, []);
  }));

test('a line is high while any of its owners asserts it', () =>
  withMachine(SPIN, (machine) => {
    const edges: string[] = [];
    const lines = new IrqLines(machine.arena, { irqLine: (gsi, level) => edges.push(`${gsi} ${level}`) }, true);
    const a = lines.line(GSI, 'a');
    const b = lines.line(GSI, 'b');
    a.set(true);
    b.set(true);
    a.set(true);
    a.set(false);
    assert.deepEqual(edges, ['11 true']);
    b.set(false);
    assert.deepEqual(edges, ['11 true', '11 false']);
    a.set(true);
    lines.reset();
    assert.equal(edges.at(-1), '11 false');
  }));

test('the chips\' own routes are those of a PC: IRQ 0 at IOAPIC pin 2, nothing at the cascade', () => {
  const routes = chipRoutes();
  const pins = (gsi: number): string[] => routes.filter((route) => route.gsi === gsi).map((route) => (route.kind === 'chip' ? `${route.chip}:${route.pin}` : ''));
  assert.deepEqual(pins(0), ['0:0', '2:2']);
  assert.deepEqual(pins(2), ['0:2']);
  assert.deepEqual(pins(9), ['1:1', '2:9']);
  assert.deepEqual(pins(16), ['2:16']);
});
