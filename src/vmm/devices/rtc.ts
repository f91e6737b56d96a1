// The real-time clock and CMOS memory of a PC/AT: Motorola MC146818A data sheet, at ports 0x70 (index) and 0x71 (data), IRQ 8.
//
// The clock follows the host's UTC plus what the guest set: only the difference is kept, so nothing ticks. Flags are worked out when they
// are looked at, for the time since the last look; while an interrupt is enabled, service() looks at the next moment that counts.
//
// Left out: the square wave output, daylight saving, the day and month alarms of ACPI, periodic ticks that come while the last one is not
// yet acknowledged (they count as one, as on the chip).
import type { Mutex } from '../sync/mutex.ts';
import type { Device, FixedRange, IrqLine, Platform } from './device.ts';
import { bytePorts } from './byte-ports.ts';

export const RTC_PORT = 0x70;
const PORTS = 2;

// Registers.
const SECONDS = 0x00;
const SECONDS_ALARM = 0x01;
const MINUTES = 0x02;
const MINUTES_ALARM = 0x03;
const HOURS = 0x04;
const HOURS_ALARM = 0x05;
const WEEKDAY = 0x06;
const DAY = 0x07;
const MONTH = 0x08;
const YEAR = 0x09;
const REG_A = 0x0a;
const REG_B = 0x0b;
const REG_C = 0x0c;
const REG_D = 0x0d;
const CENTURY = 0x32;

const A_RATE = 0x0f;
const A_DIVIDER = 0x70;
const A_DIVIDER_RESET = 0x60; // and 0x70
const A_UPDATING = 0x80;
/** 32.768 kHz, periodic rate 1024 Hz. */
const A_START = 0x26;

const B_24_HOURS = 0x02;
const B_BINARY = 0x04;
const B_UPDATE = 0x10;
const B_ALARM = 0x20;
const B_PERIODIC = 0x40;
const B_SET = 0x80;

const C_UPDATE = 0x10;
const C_ALARM = 0x20;
const C_PERIODIC = 0x40;
const C_REQUEST = 0x80;

const D_VALID = 0x80;

const PM = 0x80;
const DONT_CARE = 0xc0;
const INDEX = 0x7f;

// CMOS memory as PC firmware has it.
const EQUIPMENT = 0x14;
const BASE_MEMORY = 0x15;
const EXTENDED_MEMORY = 0x17;
const CHECKSUM = 0x2e;
const EXTENDED_MEMORY_AGAIN = 0x30;
const MEMORY_ABOVE_16M = 0x34;
const MEMORY_ABOVE_4G = 0x5b;
const CPUS = 0x5f;

const KIB = 1024;
const MIB = 1024 * 1024;
const DAY_SECONDS = 86_400;
const NS_PER_MS = 1e6;
/** UIP stands for 244 µs before the update and for the 1984 µs that it takes; here the update is at the end of both. */
const UPDATE_MS = 2.228;
const CRYSTAL_HZ = 32_768;

const S_BUILT = 0;
const S_INDEX = 1;
const S_FLAGS = 2;
const S_LINE = 3;
const STATE_WORDS = 4;
/** Milliseconds that the guest's clock is ahead of the host's. */
const T_OFFSET = 0;
/** The guest's second, since 1970, up to which update and alarm flags are worked out. */
const T_SEEN_SECOND = 1;
/** Guest time in nanoseconds up to which the periodic flag is worked out. */
const T_SEEN_PERIOD = 2;
const TIMES = 3;

export interface RtcOptions {
  /** RAM in bytes below 4 GiB (from 0) and from 4 GiB on. */
  readonly lowMemory: number;
  readonly highMemory: number;
  readonly cpus: number;
  readonly gsi?: number;
  /** The host's UTC in milliseconds since 1970; Date.now except in tests. */
  readonly wallClock?: () => number;
}

export class Rtc implements Device {
  readonly label = 'rtc';
  readonly mutex: Mutex;
  readonly ranges: readonly FixedRange[];
  readonly #platform: Platform;
  readonly #s: Int32Array;
  readonly #ram: Uint8Array;
  readonly #t: Float64Array;
  readonly #irq: IrqLine;
  readonly #wall: () => number;

  constructor(platform: Platform, options: RtcOptions) {
    this.#platform = platform;
    const { arena } = platform;
    this.mutex = arena.mutex('rtc.mutex');
    this.#s = arena.int32('rtc.state', STATE_WORDS);
    this.#ram = arena.uint8('rtc.ram', 128);
    this.#t = arena.float64('rtc.times', TIMES);
    this.#irq = platform.irqLine(options.gsi ?? 8, this.label);
    this.#wall = options.wallClock ?? Date.now;
    this.ranges = [{ space: 'io', start: RTC_PORT, size: PORTS, handler: bytePorts(this, PORTS) }];
    this.mutex.run(() => {
      if (this.#s[S_BUILT] !== 0) return;
      this.#s[S_BUILT] = 1;
      this.#ram[REG_A] = A_START;
      this.#ram[REG_B] = B_24_HOURS;
      this.#fillMemory(options);
      this.#t[T_SEEN_SECOND] = this.#second();
    });
  }

  /** The battery keeps time and memory; interrupts are off. */
  reset(): void {
    this.mutex.run(() => {
      this.#ram[REG_B] &= ~(B_PERIODIC | B_ALARM | B_UPDATE);
      this.#s[S_FLAGS] = 0;
      this.#s[S_INDEX] = 0;
      this.#s[S_LINE] = 0;
    });
    this.#irq.set(false);
  }

  readPort(offset: number): number {
    if (offset === 0) return 0xff; // the index cannot be read
    const register = this.#s[S_INDEX] & INDEX;
    const ram = this.#ram;
    switch (register) {
      case SECONDS:
      case MINUTES:
      case HOURS:
      case WEEKDAY:
      case DAY:
      case MONTH:
      case YEAR:
      case CENTURY:
        return this.#frozen() ? ram[register] : this.#field(register, this.#now());
      case REG_A:
        return ram[REG_A] | (this.#updating() ? A_UPDATING : 0);
      case REG_C: {
        this.#catchUp();
        const flags = this.#flags();
        this.#s[S_FLAGS] = 0;
        this.#updateIrq();
        return flags;
      }
      case REG_D:
        return D_VALID;
      default:
        return ram[register];
    }
  }

  writePort(offset: number, value: number): void {
    if (offset === 0) {
      this.#s[S_INDEX] = value; // bit 7 masks NMI, which nothing here raises
      return;
    }
    const register = this.#s[S_INDEX] & INDEX;
    const ram = this.#ram;
    switch (register) {
      case SECONDS:
      case MINUTES:
      case HOURS:
      case WEEKDAY:
      case DAY:
      case MONTH:
      case YEAR:
      case CENTURY: {
        if (this.#frozen()) {
          ram[register] = value;
          return;
        }
        const phase = this.#phase();
        this.#latch();
        ram[register] = value;
        this.#setTime(this.#latched() + phase);
        return;
      }
      case SECONDS_ALARM:
      case MINUTES_ALARM:
      case HOURS_ALARM:
        this.#catchUp();
        ram[register] = value;
        break;
      case REG_A:
        this.#catchUp();
        this.#change(REG_A, value & ~A_UPDATING);
        break;
      case REG_B:
        this.#catchUp();
        // SET holds the update interrupt off (data sheet, "Set").
        this.#change(REG_B, (value & B_SET) !== 0 ? value & ~B_UPDATE : value);
        this.#updateIrq();
        break;
      case REG_C:
      case REG_D:
        return;
      default:
        ram[register] = value;
        return;
    }
    if ((ram[REG_B] & (B_PERIODIC | B_ALARM | B_UPDATE)) !== 0) this.#platform.attention(this.label);
  }

  service(): number | undefined {
    return this.mutex.run(() => {
      this.#catchUp();
      this.#updateIrq();
      return this.#deadline();
    });
  }

  /** Milliseconds since 1970 by the guest's clock. */
  #now(): number {
    return this.#wall() + this.#t[T_OFFSET];
  }

  /** Milliseconds into the guest's second; years before 1970 can be set too. */
  #phase(): number {
    return ((this.#now() % 1000) + 1000) % 1000;
  }

  #second(): number {
    return Math.floor(this.#now() / 1000);
  }

  /** Whether the time registers are the guest's to write: SET, or the divider held in reset. */
  #frozen(): boolean {
    return (this.#ram[REG_B] & B_SET) !== 0 || (this.#ram[REG_A] & A_DIVIDER_RESET) === A_DIVIDER_RESET;
  }

  #updating(): boolean {
    if (this.#frozen()) return false;
    const phase = this.#phase();
    return phase >= 1000 - UPDATE_MS;
  }

  #encode(value: number): number {
    return (this.#ram[REG_B] & B_BINARY) !== 0 ? value : Math.floor(value / 10) * 16 + (value % 10);
  }

  #decode(value: number): number {
    return (this.#ram[REG_B] & B_BINARY) !== 0 ? value : (value >> 4) * 10 + (value & 0x0f);
  }

  #encodeHours(hours: number): number {
    if ((this.#ram[REG_B] & B_24_HOURS) !== 0) return this.#encode(hours);
    return this.#encode(hours % 12 === 0 ? 12 : hours % 12) | (hours >= 12 ? PM : 0);
  }

  #decodeHours(value: number): number {
    if ((this.#ram[REG_B] & B_24_HOURS) !== 0) return this.#decode(value);
    return (this.#decode(value & ~PM) % 12) + ((value & PM) !== 0 ? 12 : 0);
  }

  #field(register: number, now: number): number {
    const date = new Date(now);
    switch (register) {
      case SECONDS:
        return this.#encode(date.getUTCSeconds());
      case MINUTES:
        return this.#encode(date.getUTCMinutes());
      case HOURS:
        return this.#encodeHours(date.getUTCHours());
      case WEEKDAY:
        return date.getUTCDay() + 1; // Sunday is 1
      case DAY:
        return this.#encode(date.getUTCDate());
      case MONTH:
        return this.#encode(date.getUTCMonth() + 1);
      case YEAR:
        return this.#encode(date.getUTCFullYear() % 100);
      default:
        return this.#encode(Math.floor(date.getUTCFullYear() / 100) % 100);
    }
  }

  /** Writes the running time into the registers, where it stands still. */
  #latch(): void {
    const now = this.#now();
    for (const register of [SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY]) this.#ram[register] = this.#field(register, now);
  }

  /** What the registers hold, in milliseconds since 1970; days that do not exist run on into the next month. */
  #latched(): number {
    const ram = this.#ram;
    const year = this.#decode(ram[CENTURY]) * 100 + this.#decode(ram[YEAR]);
    const time = new Date(0);
    time.setUTCFullYear(year, this.#decode(ram[MONTH]) - 1, this.#decode(ram[DAY]));
    time.setUTCHours(this.#decodeHours(ram[HOURS]), this.#decode(ram[MINUTES]), this.#decode(ram[SECONDS]));
    return time.getTime();
  }

  #setTime(time: number): void {
    this.#t[T_OFFSET] = time - this.#wall();
    this.#t[T_SEEN_SECOND] = this.#second();
  }

  /** Writes register A or B, and stops or starts the clock if that is what it means. */
  #change(register: number, value: number): void {
    const ram = this.#ram;
    const wasFrozen = this.#frozen();
    const wasReset = (ram[REG_A] & A_DIVIDER_RESET) === A_DIVIDER_RESET;
    const phase = this.#phase();
    if (!wasFrozen) this.#latch();
    const rate = ram[REG_A] & A_RATE;
    const periodic = ram[REG_B] & B_PERIODIC;
    ram[register] = value;
    if (rate !== (ram[REG_A] & A_RATE) || periodic !== (ram[REG_B] & B_PERIODIC)) this.#t[T_SEEN_PERIOD] = this.#platform.clock.now();
    if (!wasFrozen || this.#frozen()) return;
    // The first update comes half a second after the divider was let go; SET alone leaves the divider running.
    this.#setTime(this.#latched() + (wasReset ? 500 : phase));
  }

  /** Nanoseconds of one period, or 0 when it is switched off. */
  #period(): number {
    const rate = this.#ram[REG_A] & A_RATE;
    if (rate === 0 || (this.#ram[REG_A] & A_DIVIDER & A_DIVIDER_RESET) === A_DIVIDER_RESET) return 0;
    const shift = rate <= 2 ? rate + 6 : rate - 1; // rates 1 and 2 are those of 8 and 9
    return (2 ** shift / CRYSTAL_HZ) * 1e9;
  }

  /** Sets the flags for what happened since they were last worked out. */
  #catchUp(): void {
    const t = this.#t;
    const period = this.#period();
    const guest = this.#platform.clock.now();
    if (period > 0) {
      const tick = Math.floor(guest / period);
      if (tick > Math.floor(t[T_SEEN_PERIOD] / period)) this.#s[S_FLAGS] |= C_PERIODIC;
    }
    t[T_SEEN_PERIOD] = guest;
    if (this.#frozen()) return;
    const second = this.#second();
    const seen = t[T_SEEN_SECOND];
    if (second > seen) {
      this.#s[S_FLAGS] |= C_UPDATE;
      const wait = this.#secondsToAlarm(seen);
      if (wait > 0 && seen + wait <= second) this.#s[S_FLAGS] |= C_ALARM;
    }
    if (second !== seen) t[T_SEEN_SECOND] = second; // backwards too: the host's clock was set
  }

  /** Seconds from `second` to the next one at which the alarm registers match, 1 to 86400; 0 when none does. */
  #secondsToAlarm(second: number): number {
    const ram = this.#ram;
    const start = (((second + 1) % DAY_SECONDS) + DAY_SECONDS) % DAY_SECONDS;
    const h0 = Math.floor(start / 3600);
    const m0 = Math.floor(start / 60) % 60;
    const s0 = start % 60;
    const any = (register: number): boolean => (ram[register] & DONT_CARE) === DONT_CARE;
    const hourFits = (hour: number): boolean => any(HOURS_ALARM) || this.#decodeHours(ram[HOURS_ALARM]) === hour;
    const minuteFits = (minute: number): boolean => any(MINUTES_ALARM) || this.#decode(ram[MINUTES_ALARM]) === minute;
    const secondFits = (at: number): boolean => any(SECONDS_ALARM) || this.#decode(ram[SECONDS_ALARM]) === at;
    for (let day = 0; day <= 24; day++) {
      const hour = (h0 + day) % 24;
      if (!hourFits(hour)) continue;
      for (let minute = day === 0 ? m0 : 0; minute < 60; minute++) {
        if (!minuteFits(minute)) continue;
        for (let at = day === 0 && minute === m0 ? s0 : 0; at < 60; at++) {
          if (secondFits(at)) return (h0 + day) * 3600 + minute * 60 + at - start + 1;
        }
      }
    }
    return 0;
  }

  #flags(): number {
    const flags = this.#s[S_FLAGS];
    return (flags & this.#ram[REG_B] & (C_UPDATE | C_ALARM | C_PERIODIC)) !== 0 ? flags | C_REQUEST : flags;
  }

  #updateIrq(): void {
    const level = (this.#flags() & C_REQUEST) !== 0 ? 1 : 0;
    if (this.#s[S_LINE] === level) return;
    this.#s[S_LINE] = level;
    this.#irq.set(level !== 0);
  }

  /** Guest time of the next moment at which an enabled interrupt can come. */
  #deadline(): number | undefined {
    const enabled = this.#ram[REG_B];
    const guest = this.#platform.clock.now();
    let next = Infinity;
    const period = this.#period();
    if ((enabled & B_PERIODIC) !== 0 && period > 0) next = (Math.floor(guest / period) + 1) * period;
    if (!this.#frozen()) {
      const toNextSecond = 1000 - this.#phase();
      if ((enabled & B_UPDATE) !== 0) next = Math.min(next, guest + toNextSecond * NS_PER_MS);
      if ((enabled & B_ALARM) !== 0) {
        const wait = this.#secondsToAlarm(this.#second());
        // Looked at again each hour at least, in case that the host's clock is set.
        if (wait > 0) next = Math.min(next, guest + Math.min(toNextSecond + (wait - 1) * 1000, 3_600_000) * NS_PER_MS);
      }
    }
    return next === Infinity ? undefined : next;
  }

  #fillMemory(options: RtcOptions): void {
    const ram = this.#ram;
    const put16 = (register: number, value: number): void => {
      ram[register] = value & 0xff;
      ram[register + 1] = (value >> 8) & 0xff;
    };
    ram[EQUIPMENT] = 0x06; // coprocessor, pointing device
    put16(BASE_MEMORY, 640);
    const extended = Math.min(Math.max(0, options.lowMemory - MIB) / KIB, 0xffff);
    put16(EXTENDED_MEMORY, extended);
    put16(EXTENDED_MEMORY_AGAIN, extended);
    put16(MEMORY_ABOVE_16M, Math.min(Math.max(0, options.lowMemory - 16 * MIB) / (64 * KIB), 0xffff));
    const high = Math.min(options.highMemory / (64 * KIB), 0xffffff);
    put16(MEMORY_ABOVE_4G, high & 0xffff);
    ram[MEMORY_ABOVE_4G + 2] = high >> 16;
    ram[CPUS] = options.cpus - 1;
    let sum = 0;
    for (let i = 0x10; i < CHECKSUM; i++) sum += ram[i];
    ram[CHECKSUM] = (sum >> 8) & 0xff; // high byte first
    ram[CHECKSUM + 1] = sum & 0xff;
  }
}
