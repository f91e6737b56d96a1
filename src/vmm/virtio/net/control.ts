// The control queue (virtio 1.3 §5.1.6.5): what the driver wants to get, how many pairs of queues it uses, what it takes unfinished. A command's data
// is copied once; a command that is unknown, too short, or of a feature that was not negotiated is answered with an error and changes nothing.
import { MAC_BYTES } from '../../net/mac.ts';
import type { DriverSession } from '../backend.ts';
import type { Buffers } from '../buffers.ts';
import type { Virtqueue } from '../queue/virtqueue.ts';
import { MAX_TABLE, type RxFilter } from './filter.ts';
import * as n from './numbers.ts';

const HEADER_BYTES = 2;
const GROUP = 0x01;
const VLAN_LAST = 4094;
/** Of one call: a driver may make more available as fast as they are done, and others wait for the Worker. */
const COMMANDS_A_TURN = 128;

export interface ControlActs {
  readonly filter: RxFilter;
  readonly pairs: number;
  /** The driver uses so many pairs from now on. */
  usePairs(count: number): void;
  /** What the driver takes unfinished from now on: all of it was negotiated. @returns false when the host refuses */
  takeOffloads(has: (feature: number) => boolean): boolean;
}

/** The offloads that a driver may switch, by feature numbers (§5.1.6.5.6.1). */
const SWITCHABLE = [
  n.VIRTIO_NET_F_GUEST_CSUM, n.VIRTIO_NET_F_GUEST_TSO4, n.VIRTIO_NET_F_GUEST_TSO6, n.VIRTIO_NET_F_GUEST_ECN, n.VIRTIO_NET_F_GUEST_USO4, n.VIRTIO_NET_F_GUEST_USO6,
];

export class ControlQueue {
  readonly #acts: ControlActs;

  constructor(acts: ControlActs) {
    this.#acts = acts;
  }

  /** @returns whether there may be more */
  run(queue: Virtqueue, driver: DriverSession): boolean {
    const answer = new Uint8Array(1);
    let done = 0;
    for (; done < COMMANDS_A_TURN; done++) {
      const chain = queue.take();
      if (chain === null) break;
      answer[0] = this.#command(chain.readable, driver) ? n.VIRTIO_NET_OK : n.VIRTIO_NET_ERR;
      queue.complete(chain, chain.writable.write(0, answer));
    }
    driver.completed(queue);
    return done === COMMANDS_A_TURN;
  }

  #command(from: Buffers, driver: DriverSession): boolean {
    const header = new Uint8Array(HEADER_BYTES);
    if (from.read(0, header) < HEADER_BYTES) return false;
    const [kind, command] = header as unknown as [number, number];
    switch (kind) {
      case n.VIRTIO_NET_CTRL_RX: return this.#rx(command, from, driver);
      case n.VIRTIO_NET_CTRL_MAC: return command === n.VIRTIO_NET_CTRL_MAC_TABLE_SET ? this.#tables(from, driver) : command === n.VIRTIO_NET_CTRL_MAC_ADDR_SET && this.#address(from, driver);
      case n.VIRTIO_NET_CTRL_VLAN: return this.#vlan(command, from, driver);
      case n.VIRTIO_NET_CTRL_MQ: return command === n.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET && this.#pairs(from, driver);
      case n.VIRTIO_NET_CTRL_GUEST_OFFLOADS: return command === n.VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET && this.#offloads(from, driver);
      default: return false;
    }
  }

  /** `bytes` of the data from `offset` on, or null when there are not so many. */
  #data(from: Buffers, bytes: number, offset = 0): DataView | null {
    const copy = new Uint8Array(bytes);
    return from.read(HEADER_BYTES + offset, copy) === bytes ? new DataView(copy.buffer) : null;
  }

  #rx(command: number, from: Buffers, driver: DriverSession): boolean {
    const data = this.#data(from, 1);
    if (data === null || !driver.has(n.VIRTIO_NET_F_CTRL_RX)) return false;
    const on = data.getUint8(0) !== 0;
    const { filter } = this.#acts;
    if (command > n.VIRTIO_NET_CTRL_RX_ALLMULTI && !driver.has(n.VIRTIO_NET_F_CTRL_RX_EXTRA)) return false;
    if (command === n.VIRTIO_NET_CTRL_RX_PROMISC) filter.promiscuous = on;
    else if (command === n.VIRTIO_NET_CTRL_RX_ALLMULTI) filter.allMulticast = on;
    else if (command === n.VIRTIO_NET_CTRL_RX_ALLUNI) filter.allUnicast = on;
    else if (command === n.VIRTIO_NET_CTRL_RX_NOMULTI) filter.noMulticast = on;
    else if (command === n.VIRTIO_NET_CTRL_RX_NOUNI) filter.noUnicast = on;
    else if (command === n.VIRTIO_NET_CTRL_RX_NOBCAST) filter.noBroadcast = on;
    else return false;
    return true;
  }

  /** Unicast, then multicast addresses: a count (4) and the addresses each. */
  #tables(from: Buffers, driver: DriverSession): boolean {
    if (!driver.has(n.VIRTIO_NET_F_CTRL_RX)) return false;
    let offset = 0;
    const tables: (Uint8Array[] | null)[] = [];
    for (let table = 0; table < 2; table++) {
      const count = this.#data(from, 4, offset)?.getUint32(0, true);
      if (count === undefined) return false;
      offset += 4;
      if (HEADER_BYTES + offset + count * MAC_BYTES > from.bytes) return false;
      if (count > MAX_TABLE) tables.push(null);
      else {
        const data = this.#data(from, count * MAC_BYTES, offset)!;
        tables.push(Array.from({ length: count }, (_, i) => new Uint8Array(data.buffer, i * MAC_BYTES, MAC_BYTES)));
      }
      offset += count * MAC_BYTES;
    }
    this.#acts.filter.setTables(tables[0]!, tables[1]!);
    return true;
  }

  #address(from: Buffers, driver: DriverSession): boolean {
    const data = this.#data(from, MAC_BYTES);
    if (data === null || !driver.has(n.VIRTIO_NET_F_CTRL_MAC_ADDR) || (data.getUint8(0) & GROUP) !== 0) return false;
    this.#acts.filter.mac.set(new Uint8Array(data.buffer));
    return true;
  }

  #vlan(command: number, from: Buffers, driver: DriverSession): boolean {
    const id = this.#data(from, 2)?.getUint16(0, true);
    if (id === undefined || id > VLAN_LAST || !driver.has(n.VIRTIO_NET_F_CTRL_VLAN)) return false;
    if (command !== n.VIRTIO_NET_CTRL_VLAN_ADD && command !== n.VIRTIO_NET_CTRL_VLAN_DEL) return false;
    this.#acts.filter.setVlan(id, command === n.VIRTIO_NET_CTRL_VLAN_ADD);
    return true;
  }

  #pairs(from: Buffers, driver: DriverSession): boolean {
    const count = this.#data(from, 2)?.getUint16(0, true);
    if (count === undefined || count < 1 || count > this.#acts.pairs || !driver.has(n.VIRTIO_NET_F_MQ)) return false;
    this.#acts.usePairs(count);
    return true;
  }

  #offloads(from: Buffers, driver: DriverSession): boolean {
    const data = this.#data(from, 8);
    if (data === null || !driver.has(n.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) return false;
    const words = [data.getUint32(0, true), data.getUint32(4, true)];
    const wanted = (feature: number): boolean => (words[feature >>> 5]! & (1 << (feature & 31))) !== 0;
    for (let feature = 0; feature < 64; feature++) if (wanted(feature) && !(SWITCHABLE.includes(feature) && driver.has(feature))) return false;
    return this.#acts.takeOffloads(wanted);
  }
}
