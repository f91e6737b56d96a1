// What a function's configuration space says beyond its other files in sysfs: where the MSI-X table lies (PCI 3.0 §6.8.2), and whether a
// bridge's port keeps its devices apart (Access Control Services, PCIe 4.0 §7.7.8). An ordinary user is given the first 64 bytes alone:
// everything here may be unknown. Left out: quirks by which Linux believes ports without ACS.

const STATUS = 0x06;
const STATUS_CAPABILITIES = 1 << 4;
const HEADER_TYPE = 0x0e;
const HEADER_BRIDGE = 1;
const CAPABILITY_POINTER = 0x34;
const CAPABILITY_MSIX = 0x11;
const MSIX_CONTROL = 2;
const MSIX_TABLE = 4;
const MSIX_PBA = 8;
const MSIX_ENTRY = 16;
const EXTENDED = 0x100;
const EXTENDED_ACS = 0x000d;
const ACS_CONTROL = 6;
/** Source validation, P2P request redirect, P2P completion redirect, upstream forwarding: what isolation needs. */
const ACS_ISOLATES = 0b11101;
const BIR = 0b111;

export interface MsixPlace {
  vectors: number;
  /** BAR and offset in bytes of the table and of the pending bits. */
  table: { bar: number; offset: number };
  pba: { bar: number; offset: number };
  /** Bytes of the table. */
  tableSize: number;
}

export interface ConfigFacts {
  bridge: boolean;
  msix?: MsixPlace;
  /** Of a bridge whose extended capabilities could be read: whether its ACS isolates. */
  acs?: boolean;
}

/** @param config as much of the configuration space as could be read; hostile lists of capabilities end after a while */
export function readConfigSpace(config: Uint8Array): ConfigFacts {
  const view = new DataView(config.buffer, config.byteOffset, config.byteLength);
  const facts: ConfigFacts = { bridge: config.length > HEADER_TYPE && (config[HEADER_TYPE] & 0x7f) === HEADER_BRIDGE };
  if (config.length >= EXTENDED && (view.getUint16(STATUS, true) & STATUS_CAPABILITIES) !== 0) {
    let at = config[CAPABILITY_POINTER] & 0xfc;
    for (let turn = 0; turn < 48 && at >= 0x40 && at + 12 <= EXTENDED; turn++) {
      if (config[at] === CAPABILITY_MSIX) {
        const vectors = (view.getUint16(at + MSIX_CONTROL, true) & 0x7ff) + 1;
        const place = (offset: number) => {
          const value = view.getUint32(at + offset, true);
          return { bar: value & BIR, offset: (value & ~BIR) >>> 0 };
        };
        facts.msix = { vectors, table: place(MSIX_TABLE), pba: place(MSIX_PBA), tableSize: vectors * MSIX_ENTRY };
      }
      at = config[at + 1] & 0xfc;
    }
  }
  if (facts.bridge && config.length > EXTENDED + ACS_CONTROL + 2) {
    facts.acs = false;
    let at = EXTENDED;
    for (let turn = 0; turn < 960 && at >= EXTENDED && at + 8 <= config.length; turn++) {
      const header = view.getUint32(at, true);
      if (header === 0 || header === 0xffffffff) break;
      if ((header & 0xffff) === EXTENDED_ACS) facts.acs = (view.getUint16(at + ACS_CONTROL, true) & ACS_ISOLATES) === ACS_ISOLATES;
      at = (header >>> 20) & 0xffc;
    }
  }
  return facts;
}
