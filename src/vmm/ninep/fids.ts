// A guest's handles ("fids"), bounded in number, descriptors and memory: what a guest holds, the host pays for.
import { constants } from 'node:os';
import { close } from './files.ts';

const { EINVAL, EMFILE } = constants.errno;

/** A file of the host, held by a descriptor: O_PATH, or of a file that was made through it. Fids that are clones share one. */
export interface Place {
  readonly fd: number;
  /** S_IFDIR and so on: a file's type never changes. */
  readonly type: number;
  /** Of its file system (Devices). */
  readonly prefix: number;
  fids: number;
}

/** An extended attribute that is read or written through a fid. */
export interface Attribute {
  readonly value: Uint8Array;
  /** Its name when it is written: it is set when the fid is clunked, and as long as every byte has come. */
  readonly name: Uint8Array | null;
  readonly flags: number;
  written: number;
}

export interface Fid {
  place: Place;
  /** Opened for reading or writing; -1 else. May be the place's own descriptor. */
  file: number;
  /** The file was opened for writing. */
  writable: boolean;
  attribute: Attribute | null;
  /** Of an open folder: where getdents goes on, as two halves. */
  cookieLow: number;
  cookieHigh: number;
}

export interface FidLimits {
  /** Descriptors of the host. */
  readonly descriptors: number;
  readonly fids: number;
  /** Bytes of extended attributes that fids hold. */
  readonly attributeBytes: number;
}

export class Fids {
  readonly #limits: FidLimits;
  readonly #fids = new Map<number, Fid>();
  #descriptors = 0;
  #attributeBytes = 0;

  constructor(limits: FidLimits) {
    this.#limits = limits;
  }

  get count(): number {
    return this.#fids.size;
  }

  get descriptors(): number {
    return this.#descriptors;
  }

  get(number: number): Fid | undefined {
    return this.#fids.get(number);
  }

  /** Whether a descriptor may be opened. */
  mayOpen(): boolean {
    return this.#descriptors < this.#limits.descriptors;
  }

  /** Counts a descriptor that was opened. */
  opened(): void {
    this.#descriptors++;
  }

  close(fd: number): void {
    close(fd);
    this.#descriptors--;
  }

  /** A place for a descriptor that was counted. */
  place(fd: number, type: number, prefix: number): Place {
    return { fd, type, prefix, fids: 0 };
  }

  /** Gives a new fid a place. @returns 0, or minus an error number */
  add(number: number, place: Place): number {
    if (this.#fids.has(number)) return -EINVAL;
    if (this.#fids.size >= this.#limits.fids) return -EMFILE;
    place.fids++;
    this.#fids.set(number, { place, file: -1, writable: false, attribute: null, cookieLow: 0, cookieHigh: 0 });
    return 0;
  }

  /** The fid is at another place from now on. */
  move(fid: Fid, place: Place): void {
    place.fids++;
    this.#leave(fid.place);
    fid.place = place;
  }

  #leave(place: Place): void {
    if (--place.fids === 0) this.close(place.fd);
  }

  /** Room for an attribute's value; false when all that may be held is held. */
  attach(fid: Fid, attribute: Attribute): boolean {
    if (this.#attributeBytes + attribute.value.length > this.#limits.attributeBytes) return false;
    this.#attributeBytes += attribute.value.length;
    fid.attribute = attribute;
    return true;
  }

  remove(number: number): void {
    const fid = this.#fids.get(number);
    if (fid === undefined) return;
    this.#fids.delete(number);
    if (fid.file >= 0 && fid.file !== fid.place.fd) this.close(fid.file);
    if (fid.attribute !== null) this.#attributeBytes -= fid.attribute.value.length;
    this.#leave(fid.place);
  }

  clear(): void {
    for (const number of this.#fids.keys()) this.remove(number);
  }
}
