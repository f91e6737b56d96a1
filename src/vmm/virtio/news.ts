// What a backend tells the control thread of its own accord (BackendHost.tell).
import type { Problem } from '../../shared/errors.ts';

export type DeviceNews =
  /** The host failed it, and the machine shall stand still until somebody has mended that: what failed is tried again when it is resumed. */
  | { kind: 'pause'; problem: Problem }
  /** The guest lit or put out lamps of the keyboard: 1 scroll lock, 2 num lock, 4 caps lock. */
  | { kind: 'lamps'; lamps: number };
