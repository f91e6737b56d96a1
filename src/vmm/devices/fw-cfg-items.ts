// The items behind fw_cfg: gathered on the control thread, then sealed into one SharedArrayBuffer that every thread reads.

export const SELECT_SIGNATURE = 0x0000;
export const SELECT_ID = 0x0001;
export const SELECT_UUID = 0x0002;
export const SELECT_RAM_SIZE = 0x0003;
export const SELECT_CPUS = 0x0005;
export const SELECT_BOOT_MENU = 0x000e;
export const SELECT_MAX_CPUS = 0x000f;
export const SELECT_FILE_DIRECTORY = 0x0019;
export const SELECT_FIRST_FILE = 0x0020;

/** Traditional interface and DMA. */
const ID_FEATURES = 0x03;
const NAME_BYTES = 56;
// struct FWCfgFile { be32 size; be16 select; be16 reserved; char name[56]; }
const DIRECTORY_HEADER = 4;
const DIRECTORY_ENTRY = 64;
const ENTRY_SELECT = 4;
const ENTRY_NAME = 8;
/** Items begin at multiples of this. */
const ALIGN = 16;

/** What another thread needs to attach. */
export interface FwCfgDescription {
  readonly buffer: SharedArrayBuffer;
  readonly items: readonly { readonly selector: number; readonly name?: string; readonly offset: number; readonly bytes: number }[];
}

/** The sealed items; the same bytes on every thread. */
export class FwCfgItems {
  readonly #description: FwCfgDescription;
  readonly #views: Map<number, Uint8Array>;
  readonly #names: Map<string, number>;

  constructor(description: FwCfgDescription) {
    this.#description = description;
    this.#views = new Map(description.items.map((item) => [item.selector, new Uint8Array(description.buffer, item.offset, item.bytes)]));
    this.#names = new Map(description.items.flatMap((item) => (item.name === undefined ? [] : [[item.name, item.selector] as const])));
  }

  describe(): FwCfgDescription {
    return this.#description;
  }

  /** The bytes of an item, shared: what is written here is what the guest reads next. */
  bytes(selector: number): Uint8Array | undefined {
    return this.#views.get(selector);
  }

  /** The selector of a file, or undefined. */
  selectorOf(name: string): number | undefined {
    return this.#names.get(name);
  }
}

/** Gathers items on the control thread. The signature, the features and the directory of files come with `seal()`. */
export class FwCfgBuilder {
  readonly #items = new Map<number, Uint8Array>();
  readonly #files = new Map<string, Uint8Array>();

  /** Adds a numbered item. Throws RangeError for selectors that are taken or belong to files. */
  add(selector: number, bytes: Uint8Array): this {
    const own = selector === SELECT_SIGNATURE || selector === SELECT_ID || selector === SELECT_FILE_DIRECTORY;
    const inFiles = selector >= SELECT_FIRST_FILE && selector < 0x8000;
    if (own || inFiles || this.#items.has(selector)) throw new RangeError(`fw_cfg selector 0x${selector.toString(16)} is taken`);
    this.#items.set(selector, bytes);
    return this;
  }

  /** Adds a number of `width` bytes, little-endian. */
  addNumber(selector: number, value: number, width: 2 | 4 | 8): this {
    const bytes = new Uint8Array(width);
    for (let i = 0, rest = value; i < width; i++, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
    return this.add(selector, bytes);
  }

  /** Adds a file. Throws RangeError when the name is taken, empty, over 55 bytes or not ASCII. */
  addFile(name: string, bytes: Uint8Array): this {
    if (!/^[\x21-\x7e]{1,55}$/.test(name)) throw new RangeError(`not a name for a fw_cfg file: ${JSON.stringify(name)}`);
    if (this.#files.has(name)) throw new RangeError(`fw_cfg file ${name} is there already`);
    this.#files.set(name, bytes);
    return this;
  }

  /** Copies all items into shared memory. Files are numbered in the order of their names, as the directory lists them. */
  seal(): FwCfgItems {
    const files = [...this.#files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, bytes], i) => ({ name, bytes, selector: SELECT_FIRST_FILE + i }));
    const directory = new Uint8Array(DIRECTORY_HEADER + files.length * DIRECTORY_ENTRY);
    const view = new DataView(directory.buffer);
    view.setUint32(0, files.length);
    for (const [i, file] of files.entries()) {
      const at = DIRECTORY_HEADER + i * DIRECTORY_ENTRY;
      view.setUint32(at, file.bytes.length);
      view.setUint16(at + ENTRY_SELECT, file.selector);
      directory.set(new TextEncoder().encode(file.name).subarray(0, NAME_BYTES - 1), at + ENTRY_NAME);
    }
    const all: { selector: number; name?: string; bytes: Uint8Array }[] = [
      { selector: SELECT_SIGNATURE, bytes: new TextEncoder().encode('QEMU') },
      { selector: SELECT_ID, bytes: Uint8Array.of(ID_FEATURES, 0, 0, 0) },
      { selector: SELECT_FILE_DIRECTORY, bytes: directory },
      ...[...this.#items].map(([selector, bytes]) => ({ selector, bytes })),
      ...files,
    ];
    let next = 0;
    const items = all.map(({ selector, name, bytes }) => {
      const offset = next;
      next = Math.ceil((offset + bytes.length) / ALIGN) * ALIGN;
      return { selector, name, offset, bytes: bytes.length };
    });
    const buffer = new SharedArrayBuffer(next);
    for (const [i, item] of items.entries()) new Uint8Array(buffer, item.offset, item.bytes).set(all[i].bytes);
    return new FwCfgItems({ buffer, items });
  }
}
