// What a PCI test function needs of the host: memory and an eventfd. Made by the control thread, handed to every thread's instance, and kept
// for the next function when one is removed: memory that KVM once mapped stays where it is for the life of the process (window.ts).
import { close, eventfd, advise, MADV_DONTDUMP, MADV_DONTFORK, takeEventfd } from '../../kvm/libc.ts';
import { allocateWindow } from '../../memory/window.ts';
import { CLASS_CODE, DEVICE_ID, MEMORY_BYTES, ROM_BYTES, ROM_OFFSET, VENDOR_ID, type PciTestParts } from './pci-test.ts';

export class PciTestStore {
  readonly #free: PciTestParts[] = [];
  readonly #all: PciTestParts[] = [];

  /** Zeroed memory with the ROM in it. */
  take(): PciTestParts {
    const parts = this.#free.pop() ?? this.#make();
    const bytes = new Uint8Array(parts.buffer, 0, MEMORY_BYTES);
    bytes.fill(0);
    bytes.set(romImage(), ROM_OFFSET);
    takeEventfd(parts.doorbell);
    return parts;
  }

  #make(): PciTestParts {
    const { buffer, address, size } = allocateWindow(MEMORY_BYTES);
    for (const advice of [MADV_DONTFORK, MADV_DONTDUMP]) advise(address, size, advice);
    const parts = { buffer, address, doorbell: eventfd() };
    this.#all.push(parts);
    return parts;
  }

  /** No thread uses them any more, and KVM neither. */
  give(parts: PciTestParts): void {
    this.#free.push(parts);
  }

  /** How many were made: for tests that nothing leaks. */
  get made(): number {
    return this.#all.length;
  }

  /** Closes every eventfd, when no thread is left. */
  close(): void {
    for (const { doorbell } of this.#all.splice(0)) close(doorbell);
    this.#free.length = 0;
  }
}

const DATA_STRUCTURE = 0x1c;
const NO_CODE = 0xff;

/** An expansion ROM with one image of no code (PCI Firmware Specification 3.3 §5.1): enough for who looks whether it is whole. */
export function romImage(): Uint8Array {
  const bytes = new Uint8Array(ROM_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0xaa55, true);
  view.setUint8(2, ROM_BYTES / 512);
  view.setUint8(3, 0xcb); // what would be called returns at once
  view.setUint16(0x18, DATA_STRUCTURE, true);
  bytes.set(new TextEncoder().encode('PCIR'), DATA_STRUCTURE);
  view.setUint16(DATA_STRUCTURE + 4, VENDOR_ID, true);
  view.setUint16(DATA_STRUCTURE + 6, DEVICE_ID, true);
  view.setUint16(DATA_STRUCTURE + 0xa, 0x1c, true); // bytes of this structure
  view.setUint8(DATA_STRUCTURE + 0xc, 3); // its revision
  view.setUint8(DATA_STRUCTURE + 0xf, CLASS_CODE >> 16);
  view.setUint16(DATA_STRUCTURE + 0x10, ROM_BYTES / 512, true);
  view.setUint8(DATA_STRUCTURE + 0x14, NO_CODE);
  view.setUint8(DATA_STRUCTURE + 0x15, 0x80); // the last image
  bytes[ROM_BYTES - 1] = 256 - (bytes.reduce((sum, byte) => sum + byte, 0) % 256);
  return bytes;
}
