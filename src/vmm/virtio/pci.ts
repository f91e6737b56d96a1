// A virtio device on PCI, the modern transport alone (virtio 1.3 §4.1): what its driver sees, in every thread. The work is done by its backend in an
// I/O Worker (runner.ts), which has an instance of this too.
//
//   BAR 1   memory32, 4 KiB    MSI-X table at 0, pending bits at 0x800: a vector for the configuration and one for each queue
//   BAR 4   memory64, 16 KiB   0x0000 common configuration, 0x1000 ISR, 0x2000 device configuration, 0x3000 notifications, 4 bytes for each queue
//
// A reset (0 written to the status) is done by the Worker, which has requests in flight. The writing vCPU waits for it a moment, because firmware does
// not look whether it is over; should it take longer, the status reads as before until it is, which is what Linux waits for (§2.4).
// Left out: the legacy and transitional interface, notification data, administration queues, shared memory, function-level reset.
import type { Handler, Width } from '../bus/handler.ts';
import type { Platform } from '../devices/device.ts';
import { signalEventfd } from '../kvm/libc.ts';
import type { Capability } from '../pci/function.ts';
import { PciFunction } from '../pci/function.ts';
import type { MsiSink, PciDevice } from '../pci/device.ts';
import { expressEndpoint } from '../pci/capability.ts';
import { MsixCapability } from '../pci/msix.ts';
import { PoisonedError, type Mutex } from '../sync/mutex.ts';
import * as c from './constants.ts';
import type { VirtioModel } from './model.ts';
import { ASKED, DeviceRegisters, DONE, IDLE, type QueueRegisters } from './registers.ts';

const VENDOR_ID = 0x1af4;
/** Plus the device type (§4.1.2). */
const DEVICE_ID = 0x1040;
const REVISION = 1;

const TABLE_BAR = 1;
const TABLE_BYTES = 0x1000;
const PBA = 0x800;
/** As many vectors as fit before the pending bits. */
export const MAX_VECTORS = PBA / 16;

const BAR = 4;
const BAR_BYTES = 0x4000;
const COMMON = 0x0000;
const COMMON_BYTES = 0x40;
const ISR = 0x1000;
const DEVICE = 0x2000;
const NOTIFY = 0x3000;
const NOTIFY_EACH = 4;

// Common configuration (§4.1.4.3).
const DEVICE_FEATURE_SELECT = 0x00;
const DEVICE_FEATURE = 0x04;
const DRIVER_FEATURE_SELECT = 0x08;
const DRIVER_FEATURE = 0x0c;
const CONFIG_MSIX_VECTOR = 0x10; // and the number of queues in the upper half
const DEVICE_STATUS = 0x14; // a byte, and the configuration's generation in the next
const QUEUE_SELECT = 0x16;
const QUEUE_SIZE = 0x18;
const QUEUE_MSIX_VECTOR = 0x1a;
const QUEUE_ENABLE = 0x1c; // and its number among the notifications in the upper half
const QUEUE_DESC = 0x20; // 8 bytes, as the driver's and the device's area after it
const QUEUE_AREAS_END = 0x38;
const QUEUE_RESET = 0x3a;

const ISR_QUEUE = 0x1;
const ISR_CONFIG = 0x2;

// Capabilities (§4.1.4): cfg_type, then where they lie.
const CFG_COMMON = 1;
const CFG_NOTIFY = 2;
const CFG_ISR = 3;
const CFG_DEVICE = 4;
const CFG_PCI = 5;
const CAP_BYTES = 16;
const CAP_TYPE = 3;
const CAP_BAR = 4;
const CAP_OFFSET = 8;
const CAP_LENGTH = 12;
const CAP_MORE = 16;

/** How long a vCPU waits in its write for the reset, milliseconds. Requests to a disk take less, nearly always. */
const RESET_WAIT = 100;

/** Descriptors of a device, the same in every thread: eventfds. */
export interface VirtioWires {
  /** Wakes its Worker to look at the registers. */
  readonly control: number;
  /** One for each queue: the driver's notification. */
  readonly kicks: readonly number[];
}

export interface VirtioPciOptions {
  readonly slot: number;
  readonly model: VirtioModel;
  readonly packed: boolean;
  readonly wires: VirtioWires;
  /** How long a vCPU waits for a reset, milliseconds: RESET_WAIT unless told. */
  readonly resetWait?: number;
}

export function virtioLabel(slot: number, model: VirtioModel): string {
  return `00:${slot.toString(16).padStart(2, '0')}.0 ${model.name}`;
}

export class VirtioPci implements PciDevice {
  readonly label: string;
  readonly mutex: Mutex;
  readonly ranges = [];
  readonly config: PciFunction;
  readonly model: VirtioModel;
  readonly registers: DeviceRegisters;
  readonly wires: VirtioWires;
  /** Device-specific configuration. */
  readonly bytes: Uint8Array;
  /** Words that the model and the backend share, out of the driver's sight. */
  readonly hidden: Int32Array;
  readonly #platform: Platform;
  readonly #msix: MsixCapability;
  readonly #resetWait: number;
  #pciCfg = 0;

  constructor(platform: Platform, msi: MsiSink, options: VirtioPciOptions) {
    const { model, slot, wires } = options;
    const label = (this.label = virtioLabel(slot, model));
    this.model = model;
    this.wires = wires;
    this.#platform = platform;
    this.#resetWait = options.resetWait ?? RESET_WAIT;
    this.mutex = platform.arena.mutex(`${label}.lock`);
    this.registers = new DeviceRegisters(platform.arena, label, model.queues);
    this.bytes = platform.arena.uint8(`virtio.config.${label}`, model.config.length);
    this.hidden = platform.arena.int32(`virtio.hidden.${label}`, model.hidden ?? 0);
    const vectors = Math.min(model.queues.length + 1, MAX_VECTORS);
    this.#msix = new MsixCapability(platform.arena, label, msi, { vectors, table: { bar: TABLE_BAR, offset: 0 }, pba: { bar: TABLE_BAR, offset: PBA } });
    const registers: Handler = { read: (offset, width) => this.#read(offset, width), write: (offset, width, value) => this.#write(offset, width, value) };
    const table: Handler = {
      read: (offset, width) => (offset < PBA ? this.#msix.table.read(offset, width) : this.#msix.pba.read(offset - PBA, width)),
      write: (offset, width, value) => (offset < PBA ? this.#msix.table : this.#msix.pba).write(offset < PBA ? offset : offset - PBA, width, value),
    };
    this.config = new PciFunction(platform.arena, {
      label, vendorId: VENDOR_ID, deviceId: DEVICE_ID + model.type, classCode: model.classCode, revision: REVISION, interruptPin: 1,
      bars: [
        { index: TABLE_BAR, kind: 'memory32', size: TABLE_BYTES, handler: table },
        { index: BAR, kind: 'memory64', size: BAR_BYTES, prefetchable: true, handler: registers, ioeventfds: wires.kicks.map((fd, queue) => ({ offset: NOTIFY + queue * NOTIFY_EACH, length: 0, fd })) },
      ],
      capabilities: [this.#msix, expressEndpoint(), ...this.#capabilities()],
    });
    if (platform.control) this.#begin(options.packed);
  }

  /** Control thread, before any other: what the device is to its first driver. */
  #begin(packed: boolean): void {
    const { registers, model } = this;
    const offered = [c.F_VERSION_1, c.F_RING_INDIRECT_DESC, c.F_RING_EVENT_IDX, c.F_RING_RESET, ...(packed ? [c.F_RING_PACKED] : []), ...model.features];
    for (let feature = 0; feature < 128; feature++) registers.offer(feature, offered.includes(feature));
    registers.clear();
    registers.pause.set(IDLE);
    this.bytes.set(model.config);
    this.hidden.fill(0);
  }

  #capabilities(): Capability[] {
    const at = (type: number, offset: number, length: number, more = 0): Capability => ({
      id: 0x09,
      bytes: CAP_BYTES + more,
      install: (image, place) => {
        image.set(place + 2, 1, CAP_BYTES + more).set(place + CAP_TYPE, 1, type).set(place + CAP_BAR, 1, BAR);
        image.set(place + CAP_OFFSET, 4, offset).set(place + CAP_LENGTH, 4, length);
        if (type === CFG_NOTIFY) image.set(place + CAP_MORE, 4, NOTIFY_EACH);
        if (type !== CFG_PCI) return;
        // The window into the BARs by configuration space: its place is the driver's to write.
        this.#pciCfg = place;
        image.allow(place + CAP_BAR, 1, 0xff).allow(place + CAP_OFFSET, 4, 0xffff_ffff).allow(place + CAP_LENGTH, 4, 0xffff_ffff);
      },
    });
    return [
      at(CFG_COMMON, COMMON, COMMON_BYTES),
      at(CFG_ISR, ISR, 1),
      ...(this.model.config.length > 0 ? [at(CFG_DEVICE, DEVICE, this.model.config.length)] : []),
      at(CFG_NOTIFY, NOTIFY, this.model.queues.length * NOTIFY_EACH, 4),
      at(CFG_PCI, 0, 0, 4),
    ];
  }

  // Registers.

  #read(offset: number, width: Width): number {
    this.#settle();
    if (offset < COMMON + COMMON_BYTES) {
      const value = this.#common(offset & ~3) >>> (8 * (offset & 3));
      return width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff;
    }
    if (offset === ISR) return this.#takeIsr();
    if (offset >= DEVICE && offset + width <= DEVICE + this.bytes.length) {
      const { bytes } = this;
      const at = offset - DEVICE;
      let value = 0;
      for (let i = width - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!;
      return value;
    }
    return 0;
  }

  #write(offset: number, width: Width, value: number): void {
    this.#settle();
    if (offset >= NOTIFY) {
      const fd = this.wires.kicks[(offset - NOTIFY) >>> 2];
      if (fd !== undefined) signalEventfd(fd);
    } else if (offset < COMMON + COMMON_BYTES) this.#writeCommon(offset, width, value);
    else if (offset >= DEVICE && offset + width <= DEVICE + this.bytes.length && this.model.configWrite !== undefined) {
      if (this.model.configWrite(this.bytes, offset - DEVICE, width, value, this.hidden)) signalEventfd(this.wires.control);
    }
  }

  /** A dword of the common configuration. */
  #common(offset: number): number {
    const r = this.registers;
    const queue = r.queues[r.queueSelect];
    const areas = offset >= QUEUE_DESC && offset < QUEUE_AREAS_END;
    switch (offset) {
      case DEVICE_FEATURE_SELECT: return r.deviceSelect;
      case DEVICE_FEATURE: return r.deviceFeatures(r.deviceSelect);
      case DRIVER_FEATURE_SELECT: return r.driverSelect;
      case DRIVER_FEATURE: return r.driverFeatures(r.driverSelect);
      case CONFIG_MSIX_VECTOR: return (r.configVector | (r.queues.length << 16)) >>> 0;
      case DEVICE_STATUS: return (r.status | (r.generation << 8) | (r.queueSelect << 16)) >>> 0;
      case QUEUE_SIZE: return queue === undefined ? (c.NO_VECTOR << 16) >>> 0 : (queue.size | (queue.vector << 16)) >>> 0;
      case QUEUE_ENABLE: return queue === undefined ? 0 : ((queue.enabled ? 1 : 0) | (r.queueSelect << 16)) >>> 0;
      case QUEUE_RESET & ~3: return queue === undefined || queue.reset.state === IDLE ? 0 : 1 << 16;
      default: return areas && queue !== undefined ? queue.address((offset - QUEUE_DESC) / 4) : 0;
    }
  }

  /** Registers take writes of their own width (§4.1.3.1); two of 16 bits may come as one of 32. */
  #writeCommon(offset: number, width: Width, value: number): void {
    const r = this.registers;
    const queue = r.queues[r.queueSelect];
    const halves = offset >= CONFIG_MSIX_VECTOR && offset < QUEUE_DESC;
    if (width === 4 && halves && offset !== DEVICE_STATUS) {
      this.#writeCommon(offset, 2, value & 0xffff);
      this.#writeCommon(offset + 2, 2, value >>> 16);
      return;
    }
    if (offset === DEVICE_STATUS) this.#writeStatus(value & 0xff);
    else if (width === 2 && offset === QUEUE_SELECT) r.queueSelect = value;
    else if (width === 2 && offset === CONFIG_MSIX_VECTOR) r.configVector = this.#vector(value);
    else if (width === 4 && offset === DEVICE_FEATURE_SELECT) r.deviceSelect = value;
    else if (width === 4 && offset === DRIVER_FEATURE_SELECT) r.driverSelect = value;
    else if (width === 4 && offset === DRIVER_FEATURE) {
      if ((r.status & c.STATUS_FEATURES_OK) === 0) r.setDriverFeatures(r.driverSelect, value);
    } else if (queue !== undefined) this.#writeQueue(queue, offset, width, value);
  }

  #writeQueue(queue: QueueRegisters, offset: number, width: Width, value: number): void {
    if (width === 2 && offset === QUEUE_MSIX_VECTOR) queue.vector = this.#vector(value);
    else if (width === 2 && offset === QUEUE_RESET && value === 1) this.#resetQueue(queue);
    else if (queue.enabled || queue.reset.state !== IDLE) return; // what it is made of is fixed now
    else if (width === 2 && offset === QUEUE_SIZE) {
      if (value <= queue.maxSize) queue.size = value;
    } else if (width === 2 && offset === QUEUE_ENABLE && value === 1) {
      queue.enabled = true;
      if (this.registers.session) this.#wake();
    } else if (width === 4 && offset >= QUEUE_DESC && offset < QUEUE_AREAS_END && offset % 4 === 0) queue.setAddress((offset - QUEUE_DESC) / 4, value);
  }

  #vector(value: number): number {
    return value < this.#msix.vectors ? value : c.NO_VECTOR;
  }

  #writeStatus(value: number): void {
    const r = this.registers;
    if (value === 0) {
      this.#resetByDriver();
      return;
    }
    if (r.reset.state !== IDLE) return; // a reset that takes its time: nothing is before it is over
    let status = value | (r.status & (c.STATUS_NEEDS_RESET | c.STATUS_FAILED));
    if ((status & c.STATUS_FEATURES_OK) !== 0 && (r.status & c.STATUS_FEATURES_OK) === 0 && !this.#accepts()) status &= ~(c.STATUS_FEATURES_OK | c.STATUS_DRIVER_OK);
    if ((status & c.STATUS_FEATURES_OK) === 0) status &= ~c.STATUS_DRIVER_OK;
    const ready = (status & c.STATUS_DRIVER_OK) !== 0 && (r.status & c.STATUS_DRIVER_OK) === 0;
    r.status = status;
    if (!ready) return;
    r.session = true;
    this.#wake();
  }

  /** What the driver wants was offered, and is virtio 1. */
  #accepts(): boolean {
    const r = this.registers;
    for (let word = 0; word < 4; word++) if ((r.driverFeatures(word) & ~r.deviceFeatures(word)) !== 0) return false;
    return r.negotiated(c.F_VERSION_1);
  }

  #resetByDriver(): void {
    const { reset } = this.registers;
    if (!this.registers.session) {
      this.#clear();
      return;
    }
    if (reset.state === IDLE) {
      reset.set(ASKED);
      this.#wake();
    }
    if (reset.wait(this.#resetWait)) this.#settle();
  }

  #resetQueue(queue: QueueRegisters): void {
    if (!this.registers.negotiated(c.F_RING_RESET) || !queue.enabled || queue.reset.state !== IDLE) return;
    if (!this.registers.session) {
      queue.clear(queue.vector);
      return;
    }
    queue.reset.set(ASKED);
    this.#wake();
    if (queue.reset.wait(this.#resetWait)) this.#settle();
  }

  /** What the Worker has done meanwhile shows from now on. */
  #settle(): void {
    const r = this.registers;
    if (!r.session) return;
    if (r.reset.state === DONE) {
      this.#clear();
      return;
    }
    for (const queue of r.queues) if (queue.reset.state === DONE) queue.clear(queue.vector);
  }

  #clear(): void {
    this.registers.clear();
    this.#lower();
  }

  #wake(): void {
    signalEventfd(this.wires.control);
  }

  // Interrupts.

  #takeIsr(): number {
    const isr = this.registers.isr;
    this.#lower();
    return isr;
  }

  #lower(): void {
    this.registers.isr = 0;
    this.config.setInterrupt(false);
  }

  /**
   * For the Worker: the driver is told that a queue has something (§4.1.5.1.3), or, without `queue`, that the configuration changed. Nothing happens
   * while the driver resets the device.
   */
  interrupt(queue?: number): void {
    const r = this.registers;
    if (!this.mutex.lockUnless(() => r.reset.state !== IDLE)) return;
    try {
      if (r.reset.state !== IDLE) return;
      const vector = queue === undefined ? r.configVector : r.queues[queue]!.vector;
      if (this.#msix.enabled) {
        if (vector !== c.NO_VECTOR) this.#msix.send(vector);
        return;
      }
      r.isr |= queue === undefined ? ISR_CONFIG : ISR_QUEUE;
      this.config.setInterrupt(true);
    } finally {
      this.mutex.unlock();
    }
  }

  // Configuration space: the window into the BARs (§4.1.4.9).

  configRead(offset: number, width: Width): number {
    const data = this.#pciCfg + CAP_MORE;
    if (offset < data || offset >= data + 4) return this.config.read(offset, width);
    return this.mutex.run(() => {
      const at = this.#window(width);
      return at === undefined ? 0 : this.#read(at, width);
    });
  }

  configWritten(offset: number, width: Width, value: number): void {
    const data = this.#pciCfg + CAP_MORE;
    if (offset < data || offset >= data + 4) return;
    const at = this.#window(width);
    if (at !== undefined) this.#write(at, width, value);
  }

  #window(width: Width): number | undefined {
    const place = this.#pciCfg;
    const offset = this.config.read(place + CAP_OFFSET, 4);
    const fits = this.config.read(place + CAP_BAR, 1) === BAR && this.config.read(place + CAP_LENGTH, 4) === width && offset % width === 0 && offset + width <= BAR_BYTES;
    return fits ? offset : undefined;
  }

  /** The queues' notifications that were made while their place moved went nowhere: each is looked at once. */
  activate(bar: number): void {
    if (bar === BAR) for (const fd of this.wires.kicks) signalEventfd(fd);
  }

  // The machine.

  /** Control thread, no vCPU runs. Waits for the Worker. */
  reset(): void {
    const { reset, session } = this.registers;
    if (session && reset.state !== DONE) {
      reset.set(ASKED);
      this.#wake();
      if (!reset.wait(MACHINE_RESET_WAIT, () => this.#lookForPoison())) throw new Error(`${this.label} has requests that the host does not end`);
    }
    this.mutex.run(() => {
      this.registers.clear();
      this.#msix.reset();
    });
  }

  /** Control thread: the Worker stops at a request's end; `waitPaused` waits for that. Goes on at `resume`. */
  pause(): void {
    this.registers.pause.set(ASKED);
    this.#wake();
  }

  waitPaused(milliseconds: number): boolean {
    return this.registers.pause.wait(milliseconds, () => this.#lookForPoison());
  }

  resume(): void {
    this.registers.pause.set(IDLE);
    this.#wake();
  }

  /** The Worker may have failed: then nobody answers. */
  #lookForPoison(): void {
    if (Atomics.load(this.#platform.arena.poison, 0) !== 0) throw new PoisonedError(this.label);
  }

  /** Control thread: the device is about to go. Its driver's requests end, and nothing is interrupted any more. */
  silence(): void {
    this.mutex.run(() => {
      if (this.registers.reset.state === IDLE) this.registers.reset.set(ASKED);
    });
    this.#wake();
  }

  /** A line for the machine's log. */
  log(text: string): void {
    this.#platform.log(this.label, text);
  }
}

export function isVirtioDevice(device: PciDevice): device is VirtioPci {
  return device instanceof VirtioPci;
}

/** A disk of the host's that does not answer keeps a machine's reset waiting so long, milliseconds; then it ends with words. */
const MACHINE_RESET_WAIT = 60_000;
