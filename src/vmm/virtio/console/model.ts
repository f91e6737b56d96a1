// The console device (virtio 1.3 §5.3): up to 16 ports, each with a queue either way, and a pair of queues for control messages. Port 0 is a console
// (Linux's hvc0), the others are for programs: /dev/virtio-ports/org.vitrine.N in a Linux guest.
//
// A console of one port needs no control messages, and does not offer them: its size is in the configuration, which every driver reads alike. Of the
// message that tells it, Linux's drivers read columns and rows in either order: most releases have rows first, and those with the change "fix order of
// fields cols and rows" have them as the specification (and this device) does. Debian's 6.1.0-56 is one of these.
import { TYPE_CONSOLE } from '../constants.ts';
import type { VirtioModel } from '../model.ts';

// Feature bits (§5.3.3).
export const F_SIZE = 0;
export const F_MULTIPORT = 1;
export const F_EMERG_WRITE = 2;

// Configuration (§5.3.4).
export const COLUMNS = 0;
export const ROWS = 2;
const MAX_PORTS = 4;
const EMERGENCY = 8;
const CONFIG_BYTES = 12;

/** Simple communication controller, other. */
const CLASS_CODE = 0x07_80_00;
const QUEUE_SIZE = 64;

export const CONTROL_IN = 2;
export const CONTROL_OUT = 3;

/** The queue by which the guest gets what is written to the port (§5.3.2). */
export const receiveQueue = (port: number): number => (port === 0 ? 0 : 2 + 2 * port);
/** The queue of what the guest writes. */
export const transmitQueue = (port: number): number => receiveQueue(port) + 1;

/** The name of a port by which a guest's programs find it; the console has none. */
export const portName = (port: number): string => (port === 0 ? '' : `org.vitrine.${port}`);

/** Emergency writes wait here for the Worker: how many came, how many were taken, then a ring of bytes. More than it holds are lost. */
const RING = 1022;
const CAME = 0;
const TAKEN = 1;
const BYTES = 2;

/** Takes up to `most` bytes of emergency writes. */
export function takeEmergency(hidden: Int32Array, most: number): Uint8Array {
  const taken = Atomics.load(hidden, TAKEN);
  const count = Math.min(most, (Atomics.load(hidden, CAME) - taken) >>> 0);
  const bytes = Uint8Array.from({ length: count }, (_, i) => Atomics.load(hidden, BYTES + ((taken + i) >>> 0) % RING));
  Atomics.store(hidden, TAKEN, (taken + count) | 0);
  return bytes;
}

export function consoleModel(ports: number): VirtioModel {
  const config = new Uint8Array(CONFIG_BYTES);
  const view = new DataView(config.buffer);
  view.setUint16(COLUMNS, 80, true);
  view.setUint16(ROWS, 25, true);
  view.setUint32(MAX_PORTS, ports, true);
  return {
    type: TYPE_CONSOLE, name: 'virtio-console', classCode: CLASS_CODE, config,
    queues: Array.from({ length: ports === 1 ? 2 : 2 + 2 * ports }, () => QUEUE_SIZE),
    features: [F_SIZE, F_EMERG_WRITE, ...(ports > 1 ? [F_MULTIPORT] : [])],
    hidden: BYTES + RING,
    configWrite: (_bytes, offset, _width, value, hidden) => {
      if (offset !== EMERGENCY) return false;
      const came = Atomics.load(hidden, CAME);
      if (((came - Atomics.load(hidden, TAKEN)) >>> 0) >= RING) return false;
      Atomics.store(hidden, BYTES + (came >>> 0) % RING, value & 0xff);
      Atomics.store(hidden, CAME, (came + 1) | 0);
      return true;
    },
  };
}
