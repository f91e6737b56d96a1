// Stopping and starting a guest's time under KVM: what must not change does not, and what happens meanwhile is not lost.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KVM_IRQCHIP_IOAPIC } from '../kvm/ioctls.ts';
import { MSR_IA32_TSC } from '../kvm/vcpu.ts';
import { tinyMachine, type TinyMachine } from '../testing/tiny-machine.ts';
import { startTime, stopTime } from './guest-time.ts';

const SPIN = [0xeb, 0xfe];
const GSI = 11;
const VECTOR = 0x51;
const TIMER_VECTOR = 0x61;
const LAPIC_SVR = 0xf0;
const LAPIC_ISR = 0x100;
const LAPIC_IRR = 0x200;
const LAPIC_LVT_TIMER = 0x320;
const LAPIC_TIMER_INITIAL = 0x380;
const LAPIC_TIMER_CURRENT = 0x390;
const LAPIC_TIMER_DIVIDE = 0x3e0;
const DIVIDE_BY_1 = 0xb;
const PERIODIC = 1 << 17;
const IOAPIC_REDIRECTION = 8 + 24;

const lapic = (machine: TinyMachine): DataView => new DataView(machine.vcpus[0]!.getLapic().buffer);

function setLapic(machine: TinyMachine, registers: readonly (readonly [offset: number, value: number])[]): void {
  const page = lapic(machine);
  for (const [offset, value] of registers) page.setUint32(offset, value, true);
  machine.vcpus[0]!.setLapic(new Uint8Array(page.buffer));
}

/** Whether `vector` waits or is served. */
function arrived(machine: TinyMachine, vector: number): boolean {
  const page = lapic(machine);
  const word = (first: number): number => page.getUint32(first + (vector >> 5) * 16, true);
  return ((word(LAPIC_IRR) | word(LAPIC_ISR)) & (1 << (vector & 31))) !== 0;
}

async function withMachine(body: (machine: TinyMachine) => Promise<void>): Promise<void> {
  const machine = await tinyMachine(SPIN);
  try {
    setLapic(machine, [[LAPIC_SVR, 0x1ff]]);
    await body(machine);
  } finally {
    await machine.end();
  }
}

for (const [how, timer] of [['without a timer', 0], ['with a periodic timer', TIMER_VECTOR | PERIODIC]] as const) {
  test(`an interrupt that came while time stood still arrives, ${how}`, () =>
    withMachine(async (machine) => {
      const chip = machine.vm.getIrqchip(KVM_IRQCHIP_IOAPIC);
      new DataView(chip.buffer).setUint32(IOAPIC_REDIRECTION + GSI * 8, VECTOR, true);
      new DataView(chip.buffer).setUint32(IOAPIC_REDIRECTION + GSI * 8 + 4, 0, true);
      machine.vm.setIrqchip(chip);
      if (timer !== 0) setLapic(machine, [[LAPIC_LVT_TIMER, timer], [LAPIC_TIMER_DIVIDE, DIVIDE_BY_1], [LAPIC_TIMER_INITIAL, 0x7fff_ffff], [LAPIC_TIMER_CURRENT, 0x7fff_ffff]]);
      const stopped = stopTime(machine.vm, machine.vcpus);
      machine.vm.irqLine(GSI, true); // edge-triggered: nothing raises it again
      assert.ok(arrived(machine, VECTOR));
      startTime(machine.vm, machine.vcpus, stopped);
      assert.ok(arrived(machine, VECTOR));
    }));
}

test('the local timer and the TSC go on from where they stood', () =>
  withMachine(async (machine) => {
    const vcpu = machine.vcpus[0]!;
    const start = 1_000_000_000; // nanoseconds: KVM's local timer ticks at 1 GHz
    setLapic(machine, [[LAPIC_LVT_TIMER, TIMER_VECTOR], [LAPIC_TIMER_DIVIDE, DIVIDE_BY_1], [LAPIC_TIMER_INITIAL, start], [LAPIC_TIMER_CURRENT, start]]);
    const tsc = (): bigint => vcpu.getMsrs([MSR_IA32_TSC]).get(MSR_IA32_TSC)!;
    const offset = vcpu.getTscOffset();
    if (offset !== null) vcpu.setTscOffset(offset - 1n);
    const movable = offset !== null && vcpu.getTscOffset() === BigInt.asUintN(64, offset - 1n);
    const asked = process.hrtime.bigint();
    const [tscThen, timerThen, clockThen] = [tsc(), lapic(machine).getUint32(LAPIC_TIMER_CURRENT, true), machine.vm.getClock()];
    const stopped = stopTime(machine.vm, machine.vcpus);
    const ran = process.hrtime.bigint() - asked;
    await sleep(1500); // the timer runs out meanwhile, by the host's time
    const begun = process.hrtime.bigint();
    startTime(machine.vm, machine.vcpus, stopped);
    const [tscNow, timerNow, clockNow] = [tsc(), lapic(machine).getUint32(LAPIC_TIMER_CURRENT, true), machine.vm.getClock()];
    const elapsed = process.hrtime.bigint() - begun + ran;
    const kHz = BigInt(vcpu.tscKhz());
    // A KVM that lets the guest read the processor's own counter cannot stop it.
    if (movable) assert.ok(tscNow - tscThen >= -kHz && tscNow - tscThen <= (elapsed * kHz) / 1_000_000n + kHz, `${tscNow - tscThen} ticks, ${elapsed} ns`);
    assert.ok(clockNow - clockThen >= -1_000_000n && clockNow - clockThen <= elapsed + 1_000_000n, `${clockNow - clockThen} ns`);
    assert.ok(timerNow > 0 && timerNow <= timerThen, `${timerThen} then, ${timerNow} now`);
    assert.equal(arrived(machine, TIMER_VECTOR), false, 'the timer has not fired');
  }));
