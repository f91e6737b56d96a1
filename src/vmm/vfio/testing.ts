// A device of a host without VFIO: configuration space and regions as plain bytes, and a record of what was done to it, for unit tests.
import { allOnes, type Width } from '../bus/handler.ts';
import type { HostFunction } from './host-function.ts';
import type { InterruptWiring } from './interrupts.ts';
import * as V from './ioctls.ts';
import type { IrqInfo, RegionInfo } from './layouts.ts';

export class FakeFunction implements HostFunction {
  readonly bytes: Uint8Array[];
  readonly regions: readonly RegionInfo[];
  readonly irqs: readonly IrqInfo[];
  /** "write 7 4 2 6": region, offset, width, value, in order; reads are not noted, for they have no effect here. */
  readonly writes: string[] = [];
  readonly reads: string[] = [];
  /** Calls of setIrqs: index, action, start, descriptors. */
  readonly irqCalls: { index: number; action: number; start: number; fds: readonly number[] | null }[] = [];
  /** What setIrqs gives for a request of so many vectors of an index. */
  irqResult: (index: number, count: number) => number = () => 0;
  resets = 0;
  resettable = true;

  /** @param sizes of BARs 0 to 5 and the ROM */
  constructor(config: Uint8Array, sizes: readonly number[], irqs: Partial<Record<number, { count: number; flags: number }>> = {}) {
    const all = [...Array.from({ length: 7 }, (_, index) => sizes[index] ?? 0), config.length];
    this.bytes = all.map((size, index) => (index === 7 ? config.slice() : new Uint8Array(size)));
    this.regions = all.map((size, index) => ({ index, size, flags: size > 0 ? 7 : 0, offset: index * 2 ** 40, msixMappable: true }));
    this.irqs = Array.from({ length: 5 }, (_, index) => ({ index, count: irqs[index]?.count ?? 0, flags: irqs[index]?.flags ?? V.VFIO_IRQ_INFO_EVENTFD }));
  }

  read(region: number, offset: number, width: Width): number {
    this.reads.push(`${region} ${offset.toString(16)} ${width}`);
    const bytes = this.bytes[region];
    if (bytes === undefined || offset + width > bytes.length) return allOnes(width);
    const view = new DataView(bytes.buffer);
    return width === 4 ? view.getUint32(offset, true) : width === 2 ? view.getUint16(offset, true) : bytes[offset]!;
  }

  write(region: number, offset: number, width: Width, value: number): void {
    this.writes.push(`${region} ${offset.toString(16)} ${width} ${value.toString(16)}`);
    const bytes = this.bytes[region];
    if (bytes === undefined || offset + width > bytes.length) return;
    const view = new DataView(bytes.buffer);
    if (width === 4) view.setUint32(offset, value, true);
    else if (width === 2) view.setUint16(offset, value, true);
    else bytes[offset] = value;
  }

  setIrqs({ index, action, start, fds }: { index: number; action: number; start: number; fds: readonly number[] | null; count?: number }): number {
    const result = fds === null ? 0 : this.irqResult(index, start + fds.length);
    if (result === 0) this.irqCalls.push({ index, action, start, fds });
    return result;
  }

  reset(): boolean {
    this.resets++;
    return true;
  }
}

/** KVM's side: which eventfd arrives where. */
export class FakeWiring implements InterruptWiring {
  readonly wired = new Map<number, { gsi: number; resample: number | undefined }>();
  readonly messages = new Map<number, { address: number; data: number }>();
  readonly pins = new Map<number, number>();
  #next = 100;

  irqfd(eventfd: number, gsi: number, options: { resample?: number; remove?: boolean } = {}): void {
    if (options.remove === true) {
      if (this.wired.get(eventfd)?.gsi !== gsi) throw new Error(`eventfd ${eventfd} is not wired to GSI ${gsi}`);
      this.wired.delete(eventfd);
    } else {
      if (this.wired.has(eventfd)) throw new Error(`eventfd ${eventfd} is wired already`);
      this.wired.set(eventfd, { gsi, resample: options.resample });
    }
  }

  readonly routes = {
    allocate: (address: number, data: number): number => {
      this.messages.set(this.#next, { address, data });
      return this.#next++;
    },
    update: (gsi: number, address: number, data: number): void => {
      if (!this.messages.has(gsi)) throw new Error(`GSI ${gsi} is free`);
      this.messages.set(gsi, { address, data });
    },
    free: (...gsis: readonly number[]): void => {
      for (const gsi of gsis) if (!this.messages.delete(gsi)) throw new Error(`GSI ${gsi} is free already`);
    },
    takePin: (pirq: number): number => {
      this.pins.set(pirq, (this.pins.get(pirq) ?? 0) + 1);
      return 24 + pirq;
    },
    releasePin: (pirq: number): void => {
      const users = this.pins.get(pirq) ?? 0;
      if (users === 0) throw new Error(`PIRQ ${pirq} has no user`);
      this.pins.set(pirq, users - 1);
    },
    routePin: (): void => {},
  };

  /** The messages that arrive, by the eventfd that brings them. */
  delivered(): { address: number; data: number }[] {
    return [...this.wired.values()].filter(({ resample }) => resample === undefined).map(({ gsi }) => this.messages.get(gsi)!);
  }
}
