// Power management of the ICH9 (Intel I/O Controller Hub 9 data sheet §13.8) as ACPI 6 §4.8 uses it: the block of 128 ports at PMBASE, the
// power management timer, and the ports of the ACPI switch (APM_CNT, APM_STS). The SCI is level-triggered.
//
// Left out: sleep states other than soft off (S4 is a power-off whose machine keeps its disk), SMI (SMI_EN is kept, nothing is raised), TCO,
// throttling and processor power states.
import type { Mutex } from '../sync/mutex.ts';
import type { Handler, Width } from '../bus/handler.ts';
import type { Device, FixedRange, IrqLine, Platform } from './device.ts';
import { bytePorts } from './byte-ports.ts';

// Offsets from PMBASE, in bytes; what the FADT names.
export const PM1_STATUS = 0x00;
export const PM1_ENABLE = 0x02;
export const PM1_CONTROL = 0x04;
export const PM_TIMER = 0x08;
export const GPE0_STATUS = 0x20;
export const GPE0_ENABLE = 0x28;
export const PM1_EVENT_BYTES = 4;
export const PM1_CONTROL_BYTES = 2;
export const PM_TIMER_BYTES = 4;
export const GPE0_BYTES = 16;
export const PM_BLOCK_BYTES = 128;
/** Bits of the timer; with 32 the FADT says TMR_VAL_EXT. */
export const PM_TIMER_BITS = 24;
export const PM_TIMER_HZ = 3_579_545;
/** SLP_TYP of S4 and S5, for the DSDT. */
export const SLEEP_TYPE_S4 = 6;
export const SLEEP_TYPE_S5 = 7;
/** SMI_CMD of the FADT and what is written to it. */
export const APM_CONTROL_PORT = 0xb2;
export const APM_ACPI_ENABLE = 0x02;
export const APM_ACPI_DISABLE = 0x03;

const SMI_ENABLE = 0x30;
const SMI_STATUS = 0x34;

// PM1 status and enable.
const PM1_TIMER_OVERFLOW = 0x0001;
const PM1_GLOBAL = 0x0020;
const PM1_POWER_BUTTON = 0x0100;
const PM1_SLEEP_BUTTON = 0x0200;
const PM1_RTC = 0x0400;
const PM1_WAKE = 0x8000;
const PM1_STATUS_BITS = PM1_TIMER_OVERFLOW | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC | PM1_WAKE;
const PM1_ENABLE_BITS = PM1_TIMER_OVERFLOW | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC;

// PM1 control.
const CONTROL_SCI = 0x0001;
const CONTROL_BUS_MASTER_RELOAD = 0x0002;
const CONTROL_SLEEP_TYPE_SHIFT = 10;
const CONTROL_SLEEP_TYPE = 7;
const CONTROL_SLEEP = 0x2000;
const CONTROL_KEPT = CONTROL_SCI | CONTROL_BUS_MASTER_RELOAD | (CONTROL_SLEEP_TYPE << CONTROL_SLEEP_TYPE_SHIFT);
/** UEFI firmware made for QEMU writes this type for soft off; on the ICH9 it means "on", where sleeping makes no sense. */
const SLEEP_TYPE_FIRMWARE = 0;

const S_STATUS = 0;
const S_ENABLE = 1;
const S_CONTROL = 2;
const S_GPE_STATUS = 3; // and 4
const S_GPE_ENABLE = 5; // and 6
const S_SMI_ENABLE = 7;
const S_SMI_STATUS = 8;
const S_LINE = 9;
const S_APM_CONTROL = 10;
const S_APM_STATUS = 11;
const STATE_WORDS = 12;
/** Half turns of the timer up to which overflows are worked out. */
const T_HALF_TURNS = 0;

export interface PowerManagementOptions {
  readonly gsi?: number;
  readonly timerBits?: 24 | 32;
}

export class PowerManagement implements Device {
  readonly label = 'pm';
  readonly mutex: Mutex;
  /** The APM ports; the block itself moves with PMBASE and is `block`. */
  readonly ranges: readonly FixedRange[];
  /** The 128 ports at PMBASE, to be called with this device's mutex held; who decodes PMBASE puts it on the bus. */
  readonly block: Handler;
  readonly #platform: Platform;
  readonly #s: Int32Array;
  readonly #t: Float64Array;
  readonly #irq: IrqLine;
  readonly #timerSize: number;

  constructor(platform: Platform, options: PowerManagementOptions = {}) {
    this.#platform = platform;
    this.mutex = platform.arena.mutex('pm.mutex');
    this.#s = platform.arena.int32('pm.state', STATE_WORDS);
    this.#t = platform.arena.float64('pm.times', 1);
    this.#irq = platform.irqLine(options.gsi ?? 9, this.label);
    this.#timerSize = 2 ** (options.timerBits ?? PM_TIMER_BITS);
    this.block = { read: (offset, width) => this.#read(offset, width), write: (offset, width, value) => this.#write(offset, width, value) };
    this.ranges = [{ space: 'io', start: APM_CONTROL_PORT, size: 2, handler: bytePorts(this, 2) }];
  }

  /** In ACPI mode, as firmware hands over. */
  reset(): void {
    this.#s.fill(0);
    this.#s[S_CONTROL] = CONTROL_SCI;
    this.#t[T_HALF_TURNS] = this.#halfTurns();
    this.#irq.set(false);
  }

  /** The power button was pressed. @returns whether the guest listens for it. */
  powerButton(): boolean {
    return this.mutex.run(() => {
      this.#s[S_STATUS] |= PM1_POWER_BUTTON;
      this.#updateSci();
      return (this.#s[S_CONTROL] & CONTROL_SCI) !== 0 && (this.#s[S_ENABLE] & PM1_POWER_BUTTON) !== 0;
    });
  }

  /** A general purpose event, 0 to 63, happened; the SCI follows if the guest enabled it. @returns whether the guest listens for it. */
  raiseGpe(event: number): boolean {
    return this.mutex.run(() => {
      this.#s[S_GPE_STATUS + (event >> 5)] |= 1 << (event & 31);
      this.#updateSci();
      return (this.#s[S_CONTROL] & CONTROL_SCI) !== 0 && (this.#s[S_GPE_ENABLE + (event >> 5)] & (1 << (event & 31))) !== 0;
    });
  }

  /** The APM ports: writing the control port is how ACPI is switched on and off (FADT: SMI_CMD). */
  readPort(offset: number): number {
    return this.#s[offset === 0 ? S_APM_CONTROL : S_APM_STATUS];
  }

  writePort(offset: number, value: number): void {
    const s = this.#s;
    if (offset !== 0) {
      s[S_APM_STATUS] = value;
      return;
    }
    s[S_APM_CONTROL] = value;
    if (value === APM_ACPI_ENABLE) s[S_CONTROL] |= CONTROL_SCI;
    if (value === APM_ACPI_DISABLE) s[S_CONTROL] &= ~CONTROL_SCI;
    this.#updateSci();
  }

  service(): number | undefined {
    return this.mutex.run(() => {
      this.#updateSci();
      if ((this.#s[S_ENABLE] & PM1_TIMER_OVERFLOW) === 0) return undefined;
      // One nanosecond late rather than early, or the flag would not be due yet.
      return Math.ceil((((this.#halfTurns() + 1) * (this.#timerSize / 2)) / PM_TIMER_HZ) * 1e9) + 1;
    });
  }

  #ticks(): number {
    return Math.floor((this.#platform.clock.now() * PM_TIMER_HZ) / 1e9);
  }

  /** How often the timer's highest bit has changed. */
  #halfTurns(): number {
    return Math.floor(this.#ticks() / (this.#timerSize / 2));
  }

  /** PM1 status with the timer's overflow worked out. */
  #status(): number {
    const turns = this.#halfTurns();
    if (turns !== this.#t[T_HALF_TURNS]) {
      this.#t[T_HALF_TURNS] = turns;
      this.#s[S_STATUS] |= PM1_TIMER_OVERFLOW;
    }
    return this.#s[S_STATUS];
  }

  #updateSci(): void {
    const s = this.#s;
    const events = (this.#status() & s[S_ENABLE] & PM1_ENABLE_BITS) | (s[S_GPE_STATUS] & s[S_GPE_ENABLE]) | (s[S_GPE_STATUS + 1] & s[S_GPE_ENABLE + 1]);
    const level = (s[S_CONTROL] & CONTROL_SCI) !== 0 && events !== 0 ? 1 : 0;
    if (s[S_LINE] === level) return;
    s[S_LINE] = level;
    this.#irq.set(level !== 0);
  }

  /** The register of 32 bits that begins at `offset`, a multiple of 4. */
  #dword(offset: number): number {
    const s = this.#s;
    switch (offset) {
      case PM1_STATUS:
        return (this.#status() | (s[S_ENABLE] << 16)) >>> 0;
      case PM1_CONTROL:
        return s[S_CONTROL];
      case PM_TIMER:
        return this.#ticks() % this.#timerSize;
      case GPE0_STATUS:
      case GPE0_STATUS + 4:
        return s[S_GPE_STATUS + ((offset - GPE0_STATUS) >> 2)] >>> 0;
      case GPE0_ENABLE:
      case GPE0_ENABLE + 4:
        return s[S_GPE_ENABLE + ((offset - GPE0_ENABLE) >> 2)] >>> 0;
      case SMI_ENABLE:
        return s[S_SMI_ENABLE] >>> 0;
      case SMI_STATUS:
        return s[S_SMI_STATUS] >>> 0;
      default:
        return 0;
    }
  }

  /** Writes the bits of `mask` in the register at `offset`, a multiple of 4. */
  #setDword(offset: number, value: number, mask: number): void {
    const s = this.#s;
    const put = (word: number): void => {
      s[word] = (s[word] & ~mask) | (value & mask);
    };
    switch (offset) {
      case PM1_STATUS:
        this.#status();
        s[S_STATUS] &= ~(value & mask & PM1_STATUS_BITS); // write one to clear
        s[S_ENABLE] = ((s[S_ENABLE] & ~(mask >>> 16)) | ((value & mask) >>> 16)) & PM1_ENABLE_BITS;
        if ((s[S_ENABLE] & PM1_TIMER_OVERFLOW) !== 0) this.#platform.attention(this.label);
        break;
      case PM1_CONTROL:
        put(S_CONTROL);
        s[S_CONTROL] &= CONTROL_KEPT;
        if ((value & mask & CONTROL_SLEEP) !== 0) this.#sleep((s[S_CONTROL] >> CONTROL_SLEEP_TYPE_SHIFT) & CONTROL_SLEEP_TYPE);
        break;
      case GPE0_STATUS:
      case GPE0_STATUS + 4:
        s[S_GPE_STATUS + ((offset - GPE0_STATUS) >> 2)] &= ~(value & mask);
        break;
      case GPE0_ENABLE:
      case GPE0_ENABLE + 4:
        put(S_GPE_ENABLE + ((offset - GPE0_ENABLE) >> 2));
        break;
      case SMI_ENABLE:
        put(S_SMI_ENABLE);
        break;
      case SMI_STATUS:
        s[S_SMI_STATUS] &= ~(value & mask);
        break;
      default:
        return;
    }
    this.#updateSci();
  }

  #sleep(type: number): void {
    if (type === SLEEP_TYPE_S5 || type === SLEEP_TYPE_FIRMWARE) this.#platform.request({ kind: 'power-off', why: 'ACPI soft off' });
    else if (type === SLEEP_TYPE_S4) this.#platform.request({ kind: 'power-off', why: 'ACPI S4' });
    else this.#platform.log(this.label, `the guest asked for sleep type ${type}, which this machine does not have`);
  }

  #read(offset: number, width: Width): number {
    const shift = offset & 3;
    if (offset < 0 || offset + width > PM_BLOCK_BYTES) return 2 ** (8 * width) - 1;
    let value = this.#dword(offset - shift) >>> (8 * shift);
    const beyond = shift + width - 4;
    if (beyond > 0) value += (this.#dword(offset - shift + 4) % 2 ** (8 * beyond)) * 2 ** (8 * (4 - shift));
    return value % 2 ** (8 * width);
  }

  #write(offset: number, width: Width, value: number): void {
    const shift = offset & 3;
    if (offset < 0 || offset + width > PM_BLOCK_BYTES) return;
    const mask = 2 ** (8 * width) - 1;
    const first = offset - shift;
    this.#setDword(first, value << (8 * shift), mask << (8 * shift));
    if (shift + width > 4) {
      const down = 8 * (4 - shift);
      this.#setDword(first + 4, value >>> down, mask >>> down);
    }
  }
}
