// A raw image: byte n of the disk is byte n of the file or block device.
import { concatenate, scratchPool, type IoBuffers } from '../io/io-buffers.ts';
import { complete } from '../io/file-io.ts';
import { checkRange, EPERM, type DiskImage, type Done } from './disk-image.ts';
import { formatOfStart } from './formats.ts';
import { imageError, type HostFile } from './host-file.ts';

const SECTOR = 512;

export class RawImage implements DiskImage {
  readonly format = 'raw';
  readonly bytes: number;
  readonly readonly: boolean;
  readonly clusterBytes = 0;
  readonly #file: HostFile;
  readonly #guessed: boolean;

  /**
   * @param guessed nobody said that it is raw. Then a guest may not write another format's magic at its start: at the next start the image
   * would be taken for that, and a qcow2 header could name any file of the host as its backing file.
   */
  constructor(file: HostFile, readonly: boolean, guessed: boolean) {
    this.#file = file;
    this.readonly = readonly;
    this.#guessed = guessed;
    this.bytes = Math.ceil(file.size() / SECTOR) * SECTOR;
    if (this.bytes === 0) throw imageError('open the disk image', file.path, 'it is empty.', 'Make it as large as the disk is to be.', 'image-empty');
  }

  get blockBytes(): number {
    return Math.max(SECTOR, this.#file.alignment);
  }

  get flushFailed(): number {
    return this.#file.syncFailed;
  }

  read(offset: number, buffers: IoBuffers, done: Done): void {
    const refused = checkRange(this, offset, buffers.bytes, false);
    if (refused !== 0) return done(refused);
    this.#file.read(offset, buffers, done);
  }

  write(offset: number, buffers: IoBuffers, done: Done): void {
    const refused = checkRange(this, offset, buffers.bytes, true);
    if (refused !== 0) return done(refused);
    if (this.#guessed && offset < SECTOR && buffers.bytes > 0) return this.#writeStart(offset, buffers, done);
    this.#file.writeAt(offset, buffers, done);
  }

  /** Writes what was looked at: the guest may change its own memory between the look and the write. */
  #writeStart(offset: number, buffers: IoBuffers, done: Done): void {
    const head = scratchPool.take(Math.min(SECTOR - offset, buffers.bytes));
    buffers.read(0, head.bytes);
    const finish: Done = (errno) => {
      head.giveBack();
      done(errno);
    };
    if (this.#wouldBeTakenForAnother(offset, head.bytes)) return finish(EPERM);
    this.#file.writeAt(offset, concatenate([head.list, buffers.slice(head.bytes.length)]), finish);
  }

  #wouldBeTakenForAnother(offset: number, head: Uint8Array): boolean {
    const start = head.length === SECTOR ? new Uint8Array(SECTOR) : this.#file.readNow(0, SECTOR);
    const before = formatOfStart(start);
    start.set(head, offset);
    const after = formatOfStart(start);
    return after !== 'raw' && (before === 'raw' || after === 'qcow2');
  }

  flush(done: Done): void {
    this.#file.sync(done);
  }

  discard(offset: number, bytes: number, done: Done): void {
    const refused = checkRange(this, offset, bytes, true);
    if (refused !== 0) return done(refused);
    this.#file.discard(offset, bytes, done);
  }

  writeZeroes(offset: number, bytes: number, mayUnmap: boolean, done: Done): void {
    const refused = checkRange(this, offset, bytes, true);
    if (refused !== 0) return done(refused);
    this.#file.writeZeros(offset, bytes, mayUnmap, done);
  }

  close(): number {
    const errno = this.readonly ? 0 : complete(this.#file.io, (done) => this.flush(done));
    this.#file.close();
    return errno;
  }
}
