// What a commit has to do: the pure half of topology.ts. From who wins where before and after follow the BARs that begin and cease to answer, and
// the memslots and ioeventfds that KVM is given for what they win.
import { barSpace } from './bar.ts';
import type { Range } from '../bus/bus.ts';
import type { BarDescription, IoEvent, MemorySlot, PciDevice, Space } from './device.ts';
import type { Claim, Segment } from './resolver.ts';

const PAGE = 4096;
/** Pieces of one BAR beyond this many are trapped. */
export const MAX_SLOTS_PER_BAR = 8;

/** One BAR on this machine, as this thread knows it. */
export interface Bar {
  readonly device: PciDevice;
  readonly order: number;
  readonly description: BarDescription;
  readonly row: number;
  readonly handler: number;
  readonly name: string;
}

export interface BusClaim extends Claim {
  readonly handler: number;
  readonly bar?: Bar;
}

export type Attachment = { kind: 'slot'; key: string; slot: MemorySlot } | { kind: 'event'; key: string; event: IoEvent };

/** Who wins where, and what KVM is given for it. */
export interface Picture {
  readonly segments: Record<Space, Segment<BusClaim>[]>;
  /** Segments of each BAR that has any. */
  readonly winning: Map<Bar, Segment<BusClaim>[]>;
}

export interface Steps {
  readonly removed: { bar: Bar; attachment: Attachment }[];
  readonly added: { bar: Bar; attachment: Attachment }[];
  readonly lost: { bar: Bar; address: number }[];
  readonly gained: { bar: Bar; address: number }[];
  /** BARs whose segments, slots or activity differ: their mutexes are needed. */
  readonly touched: Set<Bar>;
  readonly remapped: Set<Bar>;
  /** Some slot goes where another comes: vCPUs must stand still. */
  readonly swaps: boolean;
}

export function difference(before: Picture, after: Picture, failed: ReadonlySet<Bar>): Steps {
  const steps = { removed: [] as Steps['removed'], added: [] as Steps['added'], lost: [] as Steps['lost'], gained: [] as Steps['gained'] };
  const touched = new Set<Bar>();
  const remapped = new Set<Bar>();
  const bars = [...new Set([...before.winning.keys(), ...after.winning.keys()])].sort((a, b) => a.row - b.row);
  for (const bar of bars) {
    const old = before.winning.get(bar) ?? [];
    const now = after.winning.get(bar) ?? [];
    if (same(old, now)) continue;
    touched.add(bar);
    const from = old[0]?.claim.address;
    const to = now[0]?.claim.address;
    if (from !== to) {
      if (from !== undefined && !failed.has(bar)) steps.lost.push({ bar, address: from });
      if (to !== undefined) steps.gained.push({ bar, address: to });
    }
    const had = new Map(attachments(bar, old).map((attachment) => [describe(attachment), attachment]));
    const has = new Map(attachments(bar, now).map((attachment) => [describe(attachment), attachment]));
    for (const [text, attachment] of had) if (!has.has(text)) steps.removed.push({ bar, attachment });
    for (const [text, attachment] of has) if (!had.has(text)) steps.added.push({ bar, attachment });
  }
  for (const { bar, attachment } of [...steps.removed, ...steps.added]) if (attachment.kind === 'slot') remapped.add(bar);
  const swaps = steps.removed.some(({ attachment: gone }) => gone.kind === 'slot' && steps.added.some(({ attachment: come }) => come.kind === 'slot' && intersect(gone.slot, come.slot)));
  return { ...steps, touched, remapped, swaps };
}

function intersect(a: MemorySlot, b: MemorySlot): boolean {
  return a.gpa < b.gpa + b.size && b.gpa < a.gpa + a.size;
}

/** What KVM is given for a BAR's winning segments: slots for whole pages of its backing's pieces, events that lie wholly in one segment. */
export function attachments(bar: Bar, segments: readonly Segment<BusClaim>[]): Attachment[] {
  const { backing, ioeventfds, kind } = bar.description;
  const list: Attachment[] = [];
  for (const { start, end, claim } of segments) {
    if (backing === undefined) continue;
    for (const piece of backing.pieces ?? [{ offset: 0, bytes: backing.bytes }]) {
      const first = claim.address + piece.offset;
      const gpa = Math.ceil(Math.max(start, first) / PAGE) * PAGE;
      const limit = Math.floor(Math.min(end, first + piece.bytes) / PAGE) * PAGE;
      // A BAR smaller than a page may begin within one, and memory too: never mapped.
      if (limit > gpa && claim.address % PAGE === 0 && backing.hva % PAGE === 0 && list.length < MAX_SLOTS_PER_BAR) {
        const slot = { gpa, size: limit - gpa, hva: backing.hva + (gpa - claim.address), dirtyLog: backing.dirtyLog, readonly: kind === 'rom' };
        list.push({ kind: 'slot', key: `${bar.name}.${list.length}`, slot });
      }
    }
  }
  (ioeventfds ?? []).forEach((event, index) => {
    const claim = segments[0]?.claim;
    if (claim === undefined) return;
    const address = claim.address + event.offset;
    const whole = segments.some(({ start, end }) => address >= start && address + Math.max(event.length, 1) <= end);
    if (whole) list.push({ kind: 'event', key: `${bar.name} event${index}`, event: { space: barSpace(kind), address, length: event.length, fd: event.fd, datamatch: event.datamatch } });
  });
  return list;
}

function describe(attachment: Attachment): string {
  if (attachment.kind === 'event') return `${attachment.key} ${attachment.event.address}`;
  return `${attachment.key} ${attachment.slot.gpa} ${attachment.slot.size} ${attachment.slot.hva}`;
}

export function same(a: readonly Segment<BusClaim>[], b: readonly Segment<BusClaim>[]): boolean {
  return a.length === b.length && a.every((segment, index) => {
    const other = b[index]!;
    return segment.start === other.start && segment.end === other.end && segment.claim.address === other.claim.address && segment.claim.handler === other.claim.handler;
  });
}

export function ranges(segments: readonly Segment<BusClaim>[]): Range[] {
  return segments.map(({ start, end, claim }) => ({ start, size: end - start, handler: claim.handler, base: claim.address }));
}
