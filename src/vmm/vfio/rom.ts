// The expansion ROM that the guest sees: a copy, from the device or from a file that the user gives (PCI 3.0 §6.3). A copy, because many devices
// cannot read theirs back once their own firmware runs, and reading it is slow.
import { readFileSync, statSync } from 'node:fs';
import { allocateWindow } from '../memory/window.ts';
import { advise, MADV_DONTDUMP, MADV_DONTFORK, readAt } from '../kvm/libc.ts';
import type { Backing } from '../pci/device.ts';
import type { RegionInfo } from './layouts.ts';
import { refusal } from './words.ts';

const SIGNATURE = 0xaa55;
const LEAST = 2048;
const MOST = 2 ** 24;
const CHUNK = 65_536;
const PAGE = 4096;

export interface Rom {
  readonly bytes: SharedArrayBuffer;
  /** Of the BAR: a power of two. */
  readonly size: number;
  readonly backing: Backing;
}

/** Throws VitrineError bad-rom. @param on the device's address */
export function romFromFile(path: string, on: string): Rom {
  let bytes: Uint8Array;
  try {
    if (statSync(path).size > MOST) throw refusal(on, `${path} is no expansion ROM: it is larger than 16 MiB.`, 'Give the file of its ROM, or rom=off.', 'bad-rom');
    bytes = readFileSync(path);
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === undefined) throw thrown;
    throw refusal(on, `the ROM file ${path} cannot be read (${code}).`, '', 'bad-rom');
  }
  if (!isRom(bytes)) throw refusal(on, `${path} is no expansion ROM: it does not begin with 55 AA.`, 'Give the file of its ROM, or rom=off.', 'bad-rom');
  return romOf(bytes);
}

/** Undefined when the device has none, or none that can be read now. @param fd of the device, which must decode memory */
export function romFromDevice(fd: number, region: RegionInfo | undefined): Rom | undefined {
  if (region === undefined || region.size === 0 || region.size > MOST) return undefined;
  const bytes = new Uint8Array(region.size);
  for (let done = 0; done < bytes.length; ) {
    const got = readAt(fd, bytes.subarray(done), Math.min(CHUNK, bytes.length - done), region.offset + done);
    if (got <= 0) return undefined;
    done += got;
  }
  return isRom(bytes) ? romOf(bytes) : undefined;
}

function isRom(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0]! + bytes[1]! * 256 === SIGNATURE;
}

function romOf(bytes: Uint8Array): Rom {
  const size = Math.max(LEAST, 2 ** Math.ceil(Math.log2(bytes.length)));
  const window = allocateWindow(size);
  for (const advice of [MADV_DONTFORK, MADV_DONTDUMP]) advise(window.address, window.size, advice);
  new Uint8Array(window.buffer, 0, size).set(bytes);
  return { bytes: window.buffer, size, backing: { hva: window.address, bytes: Math.floor(size / PAGE) * PAGE, dirtyLog: false } };
}
