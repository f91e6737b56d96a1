// Where the image's own tables lie, by cluster: no data and no other table may ever be written over one of them.

export type TableKind = 'header' | 'L1 table' | 'L2 table' | 'refcount table' | 'refcount block' | 'snapshot table' | 'snapshot\'s L1 table';

/** What the image says cannot be true. Whoever catches it marks the image corrupt and refuses to write it from then on. */
export class Corruption extends Error {
  constructor(why: string) {
    super(why);
    this.name = 'Corruption';
  }
}

export class MetadataMap {
  readonly #clusterBytes: number;
  readonly #kinds = new Map<number, TableKind>();

  constructor(clusterBytes: number) {
    this.#clusterBytes = clusterBytes;
  }

  /** Notes a table. Throws Corruption when another one is there. */
  add(kind: TableKind, offset: number, bytes: number): void {
    const first = Math.floor(offset / this.#clusterBytes);
    const end = Math.ceil((offset + bytes) / this.#clusterBytes);
    for (let cluster = first; cluster < end; cluster++) {
      const there = this.#kinds.get(cluster);
      if (there !== undefined) throw new Corruption(`the ${kind} at ${offset} lies over a ${there}`);
      this.#kinds.set(cluster, kind);
    }
  }

  remove(offset: number, bytes: number): void {
    const end = Math.ceil((offset + bytes) / this.#clusterBytes);
    for (let cluster = Math.floor(offset / this.#clusterBytes); cluster < end; cluster++) this.#kinds.delete(cluster);
  }

  has(cluster: number): boolean {
    return this.#kinds.has(cluster);
  }

  /** Throws Corruption when a write of the guest's data would go over a table. */
  checkData(offset: number, bytes: number): void {
    const end = Math.ceil((offset + bytes) / this.#clusterBytes);
    for (let cluster = Math.floor(offset / this.#clusterBytes); cluster < end; cluster++) {
      const there = this.#kinds.get(cluster);
      if (there !== undefined) throw new Corruption(`data at ${offset} lies over the ${there}`);
    }
  }
}
