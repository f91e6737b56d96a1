// What a backend tells the control thread of its own accord (BackendHost.tell).
import type { Problem } from '../../shared/errors.ts';
import type { GuestMemoryStats } from '../../shared/protocol/machine.ts';

export type DeviceNews =
  /** The device is no more (told by its threads' keeper). */
  | { kind: 'gone' }
  /** The host failed it, and the machine shall stand still until somebody has mended that: what failed is tried again when it is resumed. */
  | { kind: 'pause'; problem: Problem }
  /** The guest lit or put out lamps of the keyboard: 1 scroll lock, 2 num lock, 4 caps lock. */
  | { kind: 'lamps'; lamps: number }
  /** The guest wrote to a port of a console. More than a window's worth comes only after `console-taken`. */
  | { kind: 'console'; port: number; bytes: Uint8Array }
  /** A port that had no room for more input has some again. */
  | { kind: 'console-room'; port: number }
  /** The guest opened or closed its end of a port. */
  | { kind: 'console-open'; port: number; open: boolean }
  /** Bytes that the guest shall keep of its memory, that it keeps, and what it says of them. `off`: beside a passed-through device. */
  | { kind: 'balloon'; target: number; actual: number; off: boolean; guest?: GuestMemoryStats };
