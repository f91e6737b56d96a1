// The reference model of PCI's address decoding, for tests: registers as numbers, a list of claims with the newest last, and "who answers here"
// by looking at all of them (PCI 3.0 §6.2.2, §6.2.5; PCIe 3.0 §7.2.2). It shares no code with what it is held against, and is written to be
// read, not to be fast. How BARs, sizes, overlaps and roll-back work is said in docs/pci.md.
//
// A write is taken or refused as a whole. It is refused if a BAR that begins to answer, or begins to answer elsewhere, cannot be activated, or if
// KVM will not map one of its pages. Then all is as before; but a BAR that had ceased to answer for it, and cannot be activated where it was,
// claims nothing (void) until its address or its decode changes.
import type { BarDescription, PciWindows, Space } from './device.ts';

export type ModelBar = Omit<BarDescription, 'handler'>;
type Width = 1 | 2 | 4;

export interface ModelFunction {
  readonly name: string;
  /** slot * 8 + function */
  readonly place: number;
  readonly bars: readonly ModelBar[];
  /** Power-on dwords that are not 0, by register, but for BARs and status. */
  readonly dwords: Readonly<Record<number, number>>;
  /** Bits that a write changes, beside those of command and BARs. */
  readonly writable?: Readonly<Record<number, number>>;
}

/** A function with its registers as they are. */
interface LiveFunction extends ModelFunction {
  registers: Map<number, number>;
}

/** A BAR that decodes, and where. A void one decodes, but was given up. */
interface BarClaim {
  readonly fn: LiveFunction;
  readonly bar: ModelBar;
  readonly address: number;
  readonly void: boolean;
}

/** Something that answers a run of addresses unless something newer does. */
export interface Answering {
  readonly space: Space;
  readonly start: number;
  readonly end: number;
  readonly what: { kind: 'bar'; claim: BarClaim } | { kind: 'ecam' } | { kind: 'ports' } | { kind: 'fixed'; value: number };
}

export interface ModelSlot {
  readonly gpa: number;
  readonly size: number;
  readonly hva: number;
  readonly dirtyLog: boolean;
  readonly readonly: boolean;
}

const COMMAND = 0x04;
const ROM = 0x30;
const PAGE = 4096;
const MOST_SLOTS_PER_BAR = 8;
const GIB4 = 2 ** 32;
const MULTI_FUNCTION = 0x80_0000;

const spaceOf = (bar: ModelBar): Space => (bar.kind === 'io' ? 'io' : 'memory');
const registerOf = (bar: ModelBar): number => (bar.kind === 'rom' ? ROM : 0x10 + 4 * bar.index);
const ones = (width: Width): number => 256 ** width - 1;
/** `width` bytes of a dword, from byte `at`. */
const part = (dword: number, at: number, width: Width): number => Math.floor(dword / 256 ** at) % 256 ** width;
const byPlace = (a: BarClaim, b: BarClaim): number => a.fn.place - b.fn.place || a.bar.index - b.bar.index;
const sameIn = (list: readonly BarClaim[], claim: BarClaim): boolean => list.some((other) => other.fn === claim.fn && other.bar === claim.bar && other.address === claim.address);
const nameOf = (claim: BarClaim): string => `${claim.fn.name} bar${claim.bar.index}`;

/** What devices are told, in order. */
const tell = (lost: readonly BarClaim[], gained: readonly BarClaim[], remapped: ReadonlySet<BarClaim>): string[] => [
  ...lost.map((claim) => `deactivate ${nameOf(claim)} ${claim.address}`),
  ...gained.map((claim) => `activate ${nameOf(claim)} ${claim.address}`),
  ...new Set([...remapped].map((claim) => `remapped ${nameOf(claim)}`)),
];

/** What a read of a test BAR gives. */
export function probeValue(place: number, bar: number, offset: number): number {
  return place * 2 ** 24 + bar * 2 ** 20 + (offset % 2 ** 20);
}

export class PciModel {
  readonly #windows: PciWindows;
  readonly #fixed: readonly Answering[];
  /** Of function `place`, register `register`: bit 0 enables, bits 31:20 are the address of 1 MiB of ECAM. */
  readonly #ecam: { place: number; register: number };
  readonly #unmappable: number;
  #latch = 0;
  #functions = new Map<number, LiveFunction>();
  /** The newest last. */
  #claims: readonly BarClaim[] = [];
  #answering: readonly Answering[] = [];
  /** Whether activating a BAR of the function at `place` fails at `address`. */
  refuses: (place: number, address: number) => boolean = () => false;
  /** What devices are told, in order; undefined where an operation was refused, when the order is nobody's business. */
  calls: string[] | undefined = [];

  /**
   * @param fixed devices of the board, before all else on their addresses
   * @param unmappable address of a page that KVM refuses to map
   */
  constructor(windows: PciWindows, fixed: readonly { space: Space; start: number; end: number; value: number }[], ecam: { place: number; register: number }, unmappable: number) {
    this.#windows = windows;
    this.#fixed = [
      ...fixed.map(({ value, ...range }): Answering => ({ ...range, what: { kind: 'fixed', value } })),
      { space: 'io', start: 0xcf8, end: 0xd00, what: { kind: 'ports' } },
    ];
    this.#ecam = ecam;
    this.#unmappable = unmappable;
    this.#look();
  }

  // Functions.

  /** In a slot that nobody has written to yet. */
  add(fn: ModelFunction): void {
    this.#functions.set(fn.place, { ...fn, registers: new Map() });
    for (const each of this.#functions.values()) if (each.place >> 3 === fn.place >> 3) this.#powerOn(each);
  }

  has(place: number): boolean {
    return this.#functions.has(place);
  }

  /** Functions go, whatever they decode. Nothing can refuse that: what comes to light under them and cannot be activated becomes void. */
  remove(places: readonly number[]): void {
    const old = this.#answering;
    for (const place of places) this.#functions.delete(place);
    this.#claims = this.#claims.filter(({ fn }) => !places.includes(fn.place));
    this.#look();
    const { lost, gained, remapped } = this.#difference(old);
    if (gained.some((claim) => this.#fails(claim))) {
      this.calls = undefined;
      this.#giveUpFailing(this.#activeIn(old));
    } else this.calls?.push(...tell(lost, gained, remapped));
  }

  reset(): void {
    for (const claim of this.#activeIn(this.#answering).sort(byPlace)) this.calls?.push(`deactivate ${nameOf(claim)} ${claim.address}`);
    for (const claim of this.#activeIn(this.#answering).sort(byPlace)) if (this.#slotsIn(this.#answering, claim).length > 0) this.calls?.push(`remapped ${nameOf(claim)}`);
    this.#latch = 0;
    this.#claims = [];
    for (const fn of this.#functions.values()) this.#powerOn(fn);
    this.#look();
  }

  #powerOn(fn: LiveFunction): void {
    fn.registers = new Map(Object.entries(fn.dwords).map(([register, value]) => [Number(register), value]));
    for (const bar of fn.bars) {
      const type = bar.kind === 'io' ? 1 : bar.kind === 'rom' ? 0 : (bar.kind === 'memory64' ? 4 : 0) + (bar.prefetchable === true ? 8 : 0);
      fn.registers.set(registerOf(bar), type);
    }
    const several = [...this.#functions.keys()].some((place) => place > fn.place && place < fn.place + 8);
    if (fn.place % 8 === 0 && several) fn.registers.set(0x0c, (fn.dwords[0x0c] ?? 0) + MULTI_FUNCTION);
  }

  // Registers.

  dword(place: number, register: number): number {
    const fn = this.#functions.get(place);
    return fn === undefined ? 0xffff_ffff : (fn.registers.get(register) ?? 0);
  }

  /** Bits of the dword that take what is written. */
  #writable(fn: LiveFunction, register: number): number {
    let bits = fn.writable?.[register] ?? 0;
    if (register === COMMAND) bits += 0x544 + (fn.bars.some(({ kind }) => kind === 'io') ? 1 : 0) + (fn.bars.some(({ kind }) => kind !== 'io') ? 2 : 0);
    for (const bar of fn.bars) {
      if (register === registerOf(bar)) bits += (bar.size < GIB4 ? GIB4 - bar.size : 0) + (bar.kind === 'rom' ? 1 : 0);
      if (bar.kind === 'memory64' && register === registerOf(bar) + 4) bits += GIB4 - Math.max(1, bar.size / GIB4);
    }
    return bits;
  }

  #address(fn: LiveFunction, bar: ModelBar): number {
    const low = fn.registers.get(registerOf(bar))!;
    const high = bar.kind === 'memory64' ? (fn.registers.get(registerOf(bar) + 4) ?? 0) : 0;
    return high * GIB4 + (low - (low % bar.size));
  }

  #decodes(fn: LiveFunction, bar: ModelBar): boolean {
    const command = fn.registers.get(COMMAND) ?? 0;
    if (bar.kind === 'io') return command % 2 === 1;
    return command % 4 >= 2 && (bar.kind !== 'rom' || fn.registers.get(ROM)! % 2 === 1);
  }

  /** Within one dword. */
  configRead(place: number, register: number, width: Width): number {
    return part(this.dword(place, register - (register % 4)), register % 4, width);
  }

  /** Within one dword. */
  configWrite(place: number, at: number, width: Width, value: number): void {
    const fn = this.#functions.get(place);
    if (fn === undefined) return;
    const register = at - (at % 4);
    const before = fn.registers.get(register) ?? 0;
    const writable = this.#writable(fn, register);
    const cleared = register === COMMAND ? 0xf900_0000 : 0; // status bits go when a 1 is written
    let after = 0;
    for (let byte = 3; byte >= 0; byte--) {
      const old = part(before, byte, 1);
      const written = byte >= at % 4 && byte < (at % 4) + width ? part(value, byte - (at % 4), 1) : undefined;
      const mask = part(writable, byte, 1);
      after = after * 256 + (written === undefined ? old : ((old & ~mask) | (written & mask)) & ~(written & part(cleared, byte, 1)));
    }
    if (after !== before) this.#commit(fn, register, before, after);
  }

  // The rule.

  #commit(fn: LiveFunction, register: number, before: number, after: number): void {
    const oldClaims = this.#claims;
    const old = this.#answering;
    const oldActive = this.#activeIn(old);
    fn.registers.set(register, after);
    for (const bar of [...fn.bars].sort((a, b) => a.index - b.index)) {
      const had = this.#claims.find((claim) => claim.fn === fn && claim.bar === bar);
      const address = this.#decodes(fn, bar) ? this.#address(fn, bar) : undefined;
      if (had?.address === address) continue;
      const others = this.#claims.filter((claim) => claim !== had);
      this.#claims = address === undefined ? others : [...others, { fn, bar, address, void: false }];
    }
    this.#look();

    const { lost, gained, added, remapped } = this.#difference(old);
    if (!gained.some((claim) => this.#fails(claim)) && !added.some((slot) => this.#unmappableIn(slot))) {
      this.calls?.push(...tell(lost, gained, remapped), `changed ${fn.name} ${register} ${before} ${after}`);
      return;
    }
    this.calls = undefined;
    fn.registers.set(register, before);
    this.#claims = oldClaims;
    const gone = lost.filter((claim) => this.#fails(claim));
    this.#give(gone);
    this.#giveUpFailing(oldActive.filter((claim) => !gone.includes(claim)));
  }

  /** From who could answer before to who can now: BARs that cease and begin to answer somewhere, and whose slots differ. */
  #difference(old: readonly Answering[]): { lost: BarClaim[]; gained: BarClaim[]; added: ModelSlot[]; remapped: Set<BarClaim> } {
    const before = this.#activeIn(old);
    const after = this.#activeIn(this.#answering);
    const mapped = this.#runs(old);
    const maps = this.#runs(this.#answering);
    const removed = mapped.filter((run) => !maps.some((other) => other.text === run.text));
    const added = maps.filter((run) => !mapped.some((other) => other.text === run.text));
    return {
      lost: before.filter((claim) => !sameIn(after, claim)).sort(byPlace),
      gained: after.filter((claim) => !sameIn(before, claim)).sort(byPlace),
      added: added.map(({ slot }) => slot),
      remapped: new Set([...removed, ...added].map(({ claim }) => claim)),
    };
  }

  /** BARs that are to answer, were not among `active` and cannot be activated become void; what comes to light under them may fail in its turn. */
  #giveUpFailing(active: readonly BarClaim[]): void {
    for (;;) {
      const failing = this.#activeIn(this.#answering).filter((claim) => !sameIn(active, claim) && this.#fails(claim));
      if (failing.length === 0) return;
      this.#give(failing);
    }
  }

  #fails({ fn, address }: BarClaim): boolean {
    return this.refuses(fn.place, address);
  }

  /** These claims become void. */
  #give(up: readonly BarClaim[]): void {
    this.#claims = this.#claims.map((claim) => (up.includes(claim) ? { ...claim, void: true } : claim));
    this.#look();
  }

  /** Who could answer, in ascending order of precedence: BARs that lie wholly in a window, by age; ECAM; the board's devices. */
  #look(): void {
    const list: Answering[] = [];
    for (const claim of this.#claims) {
      const space = spaceOf(claim.bar);
      const start = claim.address;
      const end = start + claim.bar.size;
      const windows = space === 'io' ? [this.#windows.io] : [this.#windows.memory, ...(this.#windows.high === undefined ? [] : [this.#windows.high])];
      if (!claim.void && windows.some((window) => start >= window.start && end <= window.end)) list.push({ space, start, end, what: { kind: 'bar', claim } });
    }
    const ecam = this.#functions.get(this.#ecam.place)?.registers.get(this.#ecam.register) ?? 0;
    const start = ecam - (ecam % 2 ** 20);
    if (ecam % 2 === 1) list.push({ space: 'memory', start, end: start + 2 ** 20, what: { kind: 'ecam' } });
    this.#answering = [...list, ...this.#fixed];
  }

  // What follows from it.

  /** Who answers this address: the newest of all that have it. */
  who(space: Space, address: number, list: readonly Answering[] = this.#answering): Answering | undefined {
    return list.findLast((each) => each.space === space && address >= each.start && address < each.end);
  }

  get answering(): readonly Answering[] {
    return this.#answering;
  }

  /** BARs that answer at least one address: at their start, or right behind something that covers it. */
  #activeIn(list: readonly Answering[]): BarClaim[] {
    const active: BarClaim[] = [];
    for (const each of list) {
      if (each.what.kind !== 'bar') continue;
      const places = [each.start, ...list.filter((other) => other.space === each.space && other.end > each.start && other.end < each.end).map(({ end }) => end)];
      if (places.some((place) => this.who(each.space, place, list) === each)) active.push(each.what.claim);
    }
    return active;
  }

  /** Names and addresses of the BARs that answer. */
  active(): Map<string, number> {
    return new Map(this.#activeIn(this.#answering).map((claim) => [nameOf(claim), claim.address]));
  }

  /** Where a BAR's registers say it is. */
  address(place: number, index: number): number {
    const fn = this.#functions.get(place)!;
    return this.#address(fn, fn.bars.find((bar) => bar.index === index)!);
  }

  /** Whole pages of a BAR's memory, or of its mapped pieces, that nothing newer touches, joined where they follow each other. */
  #slotsIn(list: readonly Answering[], claim: BarClaim): ModelSlot[] {
    const backing = claim.bar.backing;
    if (backing === undefined || claim.address % PAGE !== 0 || backing.hva % PAGE !== 0) return [];
    const index = list.findIndex((each) => each.what.kind === 'bar' && each.what.claim === claim);
    const newer = list.slice(index + 1).filter((each) => each.space === 'memory' && each.start < claim.address + claim.bar.size && each.end > claim.address);
    const slots: ModelSlot[] = [];
    const pieces = backing.pieces ?? [{ offset: 0, bytes: backing.bytes }];
    for (let offset = 0; offset + PAGE <= backing.bytes; offset += PAGE) {
      const gpa = claim.address + offset;
      if (!pieces.some((piece) => offset >= piece.offset && offset + PAGE <= piece.offset + piece.bytes)) continue;
      if (backing.pieces?.every((piece) => offset < piece.offset || offset + PAGE > piece.offset + piece.bytes) === true) continue;
      if (newer.some((each) => each.start < gpa + PAGE && each.end > gpa)) continue;
      const last = slots.at(-1);
      if (last !== undefined && last.gpa + last.size === gpa) slots[slots.length - 1] = { ...last, size: last.size + PAGE };
      else slots.push({ gpa, size: PAGE, hva: backing.hva + offset, dirtyLog: backing.dirtyLog, readonly: claim.bar.kind === 'rom' });
    }
    return slots.slice(0, MOST_SLOTS_PER_BAR);
  }

  #runs(list: readonly Answering[]): { claim: BarClaim; key: string; slot: ModelSlot; text: string }[] {
    return this.#activeIn(list)
      .sort(byPlace)
      .flatMap((claim) => this.#slotsIn(list, claim).map((slot, index) => ({ claim, key: `${nameOf(claim)}.${index}`, slot, text: `${nameOf(claim)}.${index} ${slot.gpa} ${slot.size} ${slot.hva}` })));
  }

  #unmappableIn({ gpa, size }: ModelSlot): boolean {
    return gpa <= this.#unmappable && gpa + size > this.#unmappable;
  }

  /** The memslots that KVM has. One that it refused while a roll-back could not refuse is missing. */
  slots(): Map<string, ModelSlot> {
    return new Map(this.#runs(this.#answering).filter(({ slot }) => !this.#unmappableIn(slot)).map(({ key, slot }) => [key, slot]));
  }

  /** Addresses of the ioeventfds that KVM has: those whose every byte their BAR answers. */
  events(): Map<string, number> {
    const events = new Map<string, number>();
    for (const each of this.#answering) {
      if (each.what.kind !== 'bar') continue;
      const { claim } = each.what;
      (claim.bar.ioeventfds ?? []).forEach((event, index) => {
        const bytes = Array.from({ length: Math.max(1, event.length) }, (_, byte) => each.start + event.offset + byte);
        if (bytes.every((address) => this.who(each.space, address) === each)) events.set(`${nameOf(claim)} event${index}`, bytes[0]!);
      });
    }
    return events;
  }

  // Accesses. One that not the same answers in all its bytes is cut into bytes, each looked up by itself.

  read(space: Space, address: number, width: Width): number {
    const first = this.who(space, address);
    for (let byte = 1; byte < width; byte++) if (this.who(space, address + byte) !== first) return this.#bytes(width, (at) => this.read(space, address + at, 1));
    return first === undefined ? ones(width) : this.#readOne(first, address - first.start, width);
  }

  write(space: Space, address: number, width: Width, value: number): void {
    const first = this.who(space, address);
    for (let byte = 1; byte < width; byte++) {
      if (this.who(space, address + byte) === first) continue;
      for (let at = 0; at < width; at++) this.write(space, address + at, 1, part(value, at, 1));
      return;
    }
    if (first !== undefined) this.#writeOne(first, address - first.start, width, value);
  }

  #bytes(width: Width, read: (at: number) => number): number {
    let value = 0;
    for (let at = width - 1; at >= 0; at--) value = value * 256 + read(at);
    return value;
  }

  #readOne({ what }: Answering, offset: number, width: Width): number {
    if (what.kind === 'bar') return part(probeValue(what.claim.fn.place, what.claim.bar.index, offset), 0, width);
    if (what.kind === 'fixed') return part(what.value, 0, width);
    // Configuration transactions never cross a dword.
    if ((offset % 4) + width > 4) return this.#bytes(width, (at) => this.#readOne({ what } as Answering, offset + at, 1));
    if (what.kind === 'ecam') return this.configRead(Math.floor(offset / PAGE), offset % PAGE, width);
    if (offset < 4) return offset === 0 && width === 4 ? this.#latch : ones(width);
    return this.#latch < 2 ** 31 ? ones(width) : this.configRead(part(this.#latch, 1, 2), part(this.#latch, 0, 1) + offset - 4, width);
  }

  #writeOne({ what }: Answering, offset: number, width: Width, value: number): void {
    if (what.kind === 'fixed') return;
    if (what.kind === 'bar') this.calls?.push(`write ${nameOf(what.claim)} ${offset} ${width} ${value}`);
    else if ((offset % 4) + width > 4) for (let at = 0; at < width; at++) this.#writeOne({ what } as Answering, offset + at, 1, part(value, at, 1));
    else if (what.kind === 'ecam') this.configWrite(Math.floor(offset / PAGE), offset % PAGE, width, value);
    else if (offset >= 4 && this.#latch >= 2 ** 31) this.configWrite(part(this.#latch, 1, 2), part(this.#latch, 0, 1) + offset - 4, width, value);
    else if (offset === 0 && width === 4) this.#latch = (value & 0x80ff_fffc) >>> 0;
  }
}
