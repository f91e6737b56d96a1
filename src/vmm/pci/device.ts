// What a PCI device is to the machine, and what the machine gives to PCI: the interfaces on both sides of the host bridge.
// Addresses are guest-physical bytes or ports, as float64 numbers; sizes are bytes or ports.
import type { Handler, Width } from '../bus/handler.ts';
import type { Device } from '../devices/device.ts';
import type { PciFunction } from './function.ts';

export type Space = 'io' | 'memory';

/** 'memory64' takes two registers; 'rom' is the expansion ROM at 0x30. */
export type BarKind = 'io' | 'memory32' | 'memory64' | 'rom';

/** The number of the expansion ROM's BAR, after 0 to 5. */
export const ROM_BAR = 6;

/** Host memory that KVM maps for the guest in place of exits. The BAR's handler must do the same to the same bytes. */
export interface Backing {
  /** Host virtual address of the BAR's first byte, the same in every thread. Mapped only if it is page-aligned; else all of it is trapped. */
  readonly hva: number;
  /** May be less than the BAR's size; what is beyond is trapped. */
  readonly bytes: number;
  readonly dirtyLog: boolean;
  /** The parts of these bytes that are mapped, ascending, in whole pages; all of them unless told. What lies between is trapped. */
  readonly pieces?: readonly BackingPiece[];
}

export interface BackingPiece {
  /** From the BAR's first byte. */
  readonly offset: number;
  readonly bytes: number;
}

/** A write that KVM turns into an eventfd's signal while its place in the BAR answers. The BAR's handler must do the same. */
export interface IoEventFd {
  /** From the BAR's start. */
  readonly offset: number;
  /** Bytes of the write, or 0 for any. */
  readonly length: 0 | 1 | 2 | 4 | 8;
  readonly fd: number;
  /** Only writes of this value, if given. */
  readonly datamatch?: number;
}

export interface BarDescription {
  /** 0 to 5, or ROM_BAR for kind 'rom' and only for it. */
  readonly index: number;
  readonly kind: BarKind;
  /** A power of two; at least 4 ports and at most 256, at least 16 bytes of memory, at least 2048 bytes of ROM. */
  readonly size: number;
  readonly prefetchable?: boolean;
  /** Called with the device's mutex held, and only while the BAR answers at the address that was accessed. */
  readonly handler: Handler;
  readonly backing?: Backing;
  readonly ioeventfds?: readonly IoEventFd[];
}

/**
 * A device with a configuration space. Its callbacks run on whichever thread wrote the configuration, with the topology lock and the device's
 * own mutex held, in this order within one commit: slots removed, deactivate, activate, slots added, remapped, configChanged, configWritten.
 */
export interface PciDevice extends Device {
  readonly config: PciFunction;
  /** Answers the guest's read of `width` bytes at `offset`, within one dword, for a device whose registers are not all in `config`. Topology lock held. */
  configRead?(offset: number, width: Width): number;
  /** BAR `bar` begins to answer at `address`, wholly or in part. Throwing refuses: the guest's write is undone as if it had not been. */
  activate?(bar: number, address: number): void;
  /** BAR `bar` no longer answers at `address`: decode went off, it moved, or others cover it wholly. */
  deactivate?(bar: number, address: number): void;
  /** The memslots of BAR `bar` were made or removed: a dirty log begins anew. Where they are now: Topology.slotsOf. */
  remapped?(bar: number): void;
  /** The dword at `register` was written and differs now. */
  configChanged?(register: number, before: number, after: number): void;
  /**
   * The guest's write of `width` bytes at `offset`, within one dword, was done: told once for each write, whether or not it changed anything,
   * and after everything that follows from it. A write that was undone is not told.
   */
  configWritten?(offset: number, width: Width, value: number): void;
}

export interface MemorySlot {
  readonly gpa: number;
  readonly size: number;
  readonly hva: number;
  readonly dirtyLog: boolean;
  /** Writes exit to the bus (ROM). */
  readonly readonly: boolean;
}

/** KVM's memslots. Called with the topology lock held, from any thread. Keys are few and come again: at most 8 a BAR. */
export interface MemorySlots {
  /** `key` has no slot at this moment. Throws when KVM refuses. */
  set(key: string, slot: MemorySlot): void;
  /** Nothing happens if `key` has no slot. */
  remove(key: string): void;
}

export interface IoEvent {
  readonly space: Space;
  readonly address: number;
  readonly length: number;
  readonly fd: number;
  readonly datamatch?: number;
}

/** KVM's ioeventfds. Called with the topology lock held, from any thread. */
export interface IoEvents {
  set(key: string, event: IoEvent): void;
  /** KVM wants to be told the whole description again. */
  remove(key: string, event: IoEvent): void;
}

/**
 * Keeps guest code from running while one of its mappings is replaced. Called with the topology lock and device mutexes held, so a vCPU
 * outside KVM_RUN (it may wait for one of those mutexes) counts as parked, and looks again before it enters.
 */
export interface Parking {
  /** Returns once no other vCPU runs guest code. */
  parkOthers(): void;
  release(): void;
}

/** Delivers a message-signalled interrupt (KVM_SIGNAL_MSI). */
export interface MsiSink {
  send(address: number, data: number): void;
}

/** [start, end) */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** What the root bus decodes: a BAR answers only if it lies wholly in one of these. ACPI's _CRS says the same. */
export interface PciWindows {
  readonly io: Span;
  /** Below 4 GiB. */
  readonly memory: Span;
  /** Above all RAM, if there is one. */
  readonly high?: Span;
}
