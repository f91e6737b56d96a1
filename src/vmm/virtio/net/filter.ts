// Which frames the driver wants (virtio 1.3 §5.1.6.5.1 to 5.1.6.5.3): its own address, tables of others, kinds of addresses, VLANs. After a reset a
// card takes what is for its address, broadcasts, and every multicast, until its driver says otherwise.
import { MAC_BYTES, macText } from '../../net/mac.ts';

/** What is looked at of a frame: two addresses, the type, a VLAN's tag. */
export const LOOKED_AT = 18;
/** Longer tables than this stand for "all of them", as in real cards. */
export const MAX_TABLE = 64;
const GROUP = 0x01;
const TYPE = 12;
const TYPE_VLAN = 0x8100;
const TAG = 14;
const VLAN_MASK = 0x0fff;
const VLANS = 4096;

export class RxFilter {
  promiscuous = true;
  allMulticast = false;
  allUnicast = false;
  noMulticast = false;
  noUnicast = false;
  noBroadcast = false;
  readonly mac: Uint8Array;
  /** Null stands for all. */
  #unicast: Set<string> | null = new Set();
  #multicast: Set<string> | null = null; // until the driver names some
  readonly #vlans = new Uint8Array(VLANS);
  /** Whether the driver was offered to choose VLANs, and took it. */
  #choosesVlans = false;

  constructor(mac: Uint8Array) {
    this.mac = Uint8Array.from(mac);
  }

  /** As a driver finds it. @param controlled whether it can say what it wants; else it gets everything */
  reset(mac: Uint8Array, controlled: boolean, vlans: boolean): void {
    this.mac.set(mac);
    this.promiscuous = !controlled;
    this.allMulticast = this.allUnicast = this.noMulticast = this.noUnicast = this.noBroadcast = false;
    this.#unicast = new Set();
    this.#multicast = null;
    this.#vlans.fill(0);
    this.#choosesVlans = vlans;
  }

  /** The tables of further addresses; null for all. */
  setTables(unicast: readonly Uint8Array[] | null, multicast: readonly Uint8Array[] | null): void {
    this.#unicast = unicast === null ? null : new Set(unicast.map(macText));
    this.#multicast = multicast === null ? null : new Set(multicast.map(macText));
  }

  setVlan(id: number, wanted: boolean): void {
    this.#vlans[id & VLAN_MASK] = wanted ? 1 : 0;
  }

  /** @param frame its first LOOKED_AT bytes, or all of a shorter one */
  wants(frame: Uint8Array): boolean {
    if (this.#choosesVlans && frame.length >= LOOKED_AT && ((frame[TYPE]! << 8) | frame[TYPE + 1]!) === TYPE_VLAN) {
      if (this.#vlans[((frame[TAG]! << 8) | frame[TAG + 1]!) & VLAN_MASK] === 0) return false;
    }
    if (this.promiscuous) return true;
    if ((frame[0]! & GROUP) !== 0) {
      if (frame[0] === 0xff && frame[1] === 0xff && frame[2] === 0xff && frame[3] === 0xff && frame[4] === 0xff && frame[5] === 0xff) return !this.noBroadcast;
      if (this.noMulticast) return false;
      return this.allMulticast || this.#multicast === null || this.#multicast.has(macText(frame.subarray(0, MAC_BYTES)));
    }
    if (this.noUnicast) return false;
    if (this.allUnicast || this.#unicast === null) return true;
    let own = true;
    for (let i = 0; i < MAC_BYTES; i++) own &&= frame[i] === this.mac[i];
    return own || (this.#unicast.size > 0 && this.#unicast.has(macText(frame.subarray(0, MAC_BYTES))));
  }
}
