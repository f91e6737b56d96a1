// Message-signalled interrupts: the MSI capability (PCI 3.0 §6.8.1), with 64-bit address and, if asked for, per-vector masking. All of its
// state is in the configuration space. A function that is no bus master sends nothing (PCI 3.0 §6.2.2).
import type { ConfigImage } from './config-image.ts';
import type { Capability, PciFunction } from './function.ts';
import type { MsiSink } from './device.ts';

const ID_MSI = 0x05;
const CONTROL = 2;
const ADDRESS_LOW = 4;
const ADDRESS_HIGH = 8;
const DATA = 12;
const MASK = 16;
const PENDING = 20;

const ENABLE = 0x1;
const MULTIPLE_CAPABLE_SHIFT = 1;
const MULTIPLE_ENABLE_SHIFT = 4;
const MULTIPLE_ENABLE = 0x70;
const ADDRESS_64 = 0x80;
const MASKABLE = 0x100;

export class MsiCapability implements Capability {
  readonly id = ID_MSI;
  readonly bytes: number;
  #log2: number;
  #maskable: boolean;
  #sink: MsiSink;
  #config: PciFunction | undefined;
  #offset = 0;

  /** @param vectors 1, 2, 4, 8, 16 or 32. */
  constructor(sink: MsiSink, options: { vectors?: number; maskable?: boolean } = {}) {
    this.#sink = sink;
    this.#log2 = Math.log2(options.vectors ?? 1);
    if (!Number.isInteger(this.#log2) || this.#log2 > 5) throw new RangeError(`MSI with ${options.vectors} vectors`);
    this.#maskable = options.maskable ?? false;
    this.bytes = this.#maskable ? 24 : 14;
  }

  install(image: ConfigImage, offset: number, config: PciFunction): void {
    this.#config = config;
    this.#offset = offset;
    image.set(offset + CONTROL, 2, ADDRESS_64 | (this.#maskable ? MASKABLE : 0) | (this.#log2 << MULTIPLE_CAPABLE_SHIFT));
    image.allow(offset + CONTROL, 2, ENABLE | MULTIPLE_ENABLE);
    image.allow(offset + ADDRESS_LOW, 4, 0xffff_fffc).allow(offset + ADDRESS_HIGH, 4, 0xffff_ffff).allow(offset + DATA, 2, 0xffff);
    if (this.#maskable) image.allow(offset + MASK, 4, 2 ** 2 ** this.#log2 - 1);
  }

  /** While enabled the function does not use its interrupt pin. */
  get enabled(): boolean {
    return (this.#config!.read(this.#offset + CONTROL, 2) & ENABLE) !== 0;
  }

  /**
   * Sends the message of `vector`, with the device's mutex held; a masked one stays pending.
   * @returns false if MSI is off: the device uses its pin then.
   */
  send(vector = 0): boolean {
    const config = this.#config!;
    const control = config.read(this.#offset + CONTROL, 2);
    if ((control & ENABLE) === 0) return false;
    // The guest may have granted fewer than asked: the lowest ones share.
    const granted = 2 ** Math.min((control & MULTIPLE_ENABLE) >> MULTIPLE_ENABLE_SHIFT, this.#log2);
    const number = vector % granted;
    if (this.#maskable && (config.dword(this.#offset + MASK) & (1 << number)) !== 0) {
      config.store(this.#offset + PENDING, (config.dword(this.#offset + PENDING) | (1 << number)) >>> 0);
      return true;
    }
    this.#deliver(number, granted);
    return true;
  }

  #deliver(number: number, granted: number): void {
    const config = this.#config!;
    if (!config.busMaster) return;
    const address = config.dword(this.#offset + ADDRESS_HIGH) * 2 ** 32 + config.dword(this.#offset + ADDRESS_LOW);
    const data = config.read(this.#offset + DATA, 2);
    this.#sink.send(address, (data & ~(granted - 1)) | number);
  }

  changed(): void {
    const config = this.#config!;
    if (!this.#maskable || !this.enabled) return;
    const due = config.dword(this.#offset + PENDING) & ~config.dword(this.#offset + MASK);
    if (due === 0) return;
    config.store(this.#offset + PENDING, (config.dword(this.#offset + PENDING) & ~due) >>> 0);
    for (let vector = 0; vector < 32; vector++) if ((due & (1 << vector)) !== 0) this.send(vector);
  }
}
