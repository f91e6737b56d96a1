// Writes a cpio archive of the "newc" kind, as the kernel unpacks for an initramfs
// (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). Everything belongs to root, times are 0: the same input, the same bytes.
const FILE = 0o100000;
const FOLDER = 0o040000;
const LINK = 0o120000;
const CHARACTER_DEVICE = 0o020000;

export class Cpio {
  #parts = [];
  #files = new Set();
  #inode = 1;

  folder(path, mode = 0o755) {
    this.#add(path, FOLDER | mode, Buffer.alloc(0));
  }

  /** Once: a file that is there already stays as it is. */
  file(path, content, mode = 0o644) {
    if (this.#files.has(path)) return;
    this.#files.add(path);
    this.#add(path, FILE | mode, Buffer.from(content));
  }

  link(path, target) {
    this.#add(path, LINK | 0o777, Buffer.from(target));
  }

  device(path, major, minor, mode = 0o600) {
    this.#add(path, CHARACTER_DEVICE | mode, Buffer.alloc(0), [major, minor]);
  }

  /** The archive, with its trailer. */
  end() {
    this.#add('TRAILER!!!', 0, Buffer.alloc(0));
    return Buffer.concat(this.#parts);
  }

  #add(path, mode, content, [major, minor] = [0, 0]) {
    const name = Buffer.from(`${path}\0`);
    // magic, then: inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, check
    const fields = [this.#inode++, mode, 0, 0, 1, 0, content.length, 0, 0, major, minor, name.length, 0];
    const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
    this.#parts.push(...padded(Buffer.concat([header, name])), ...padded(content));
  }
}

/** Everything is aligned to 4 bytes. */
function padded(bytes) {
  return [bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)];
}
