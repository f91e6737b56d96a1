// The root bus: 32 slots of bus 0, and the two ways to their configuration spaces, ports CF8/CFC (PCI 3.0 §3.2.2.3.2) and ECAM (PCIe 3.0 §7.2.2).
// A transaction is at most 32 bits and never crosses a dword; what an access has beyond is cut. CF8 takes whole dwords only: a byte at 0xCF9 is
// the reset register. All of it runs under the topology lock, so the address latch and the access it is for are each whole, and one vCPU's
// configuration write is done before the next begins.
import { allOnes } from '../bus/handler.ts';
import { IntxRouter } from './intx.ts';
import type { Handler, Width } from '../bus/handler.ts';
import type { Mutex } from '../sync/mutex.ts';
import type { PciDevice, PciWindows } from './device.ts';
import type { Topology } from './topology.ts';

export const CONFIG_ADDRESS_PORT = 0xcf8;
const CONFIG_PORTS = 8;
const RESET_OFFSET = 1;
const DATA_OFFSET = 4;

const LATCH_ENABLE = 0x8000_0000;
const LATCH_BITS = 0x80ff_fffc; // enable, bus, device, function, dword
const CONFIG_BITS_ECAM = 12;

const SLOTS = 32;
const FUNCTIONS = 8;

export interface PciHostParts {
  /** Answers bytes at port 0xCF9; called with its own mutex held. */
  readonly resetRegister?: { readonly handler: Handler; readonly mutex: Mutex };
}

export class PciHost {
  readonly topology: Topology;
  readonly intx: IntxRouter;
  /** Offset 0 is bus 0, device 0, function 0, register 0. The MCH places it (PCIEXBAR). Called with the topology lock held. */
  readonly ecam: Handler;
  #latch: Uint32Array;
  #devices: (PciDevice | undefined)[] = Array.from({ length: SLOTS * FUNCTIONS });
  /** By slot * 8 + function: 1 if a guest sees the function. Changed with the topology lock held. */
  #present: Uint8Array;
  #resetRegister: PciHostParts['resetRegister'];

  constructor(topology: Topology, parts: PciHostParts = {}) {
    this.topology = topology;
    this.intx = new IntxRouter(topology.platform);
    this.#latch = topology.platform.arena.uint32('pci.latch', 1);
    this.#present = topology.platform.arena.uint8('pci.present', SLOTS * FUNCTIONS);
    this.#resetRegister = parts.resetRegister;
    const ports: Handler = {
      read: (offset, width) => this.#readPorts(offset, width),
      write: (offset, width, value) => this.#writePorts(offset, width, value),
    };
    topology.addRange('pci config', 'io', CONFIG_ADDRESS_PORT, CONFIG_PORTS, ports, topology.lock);
    this.ecam = {
      read: (offset, width) => this.#readWhole(Math.floor(offset / 2 ** CONFIG_BITS_ECAM), offset % 2 ** CONFIG_BITS_ECAM, width),
      write: (offset, width, value) => this.#writeWhole(Math.floor(offset / 2 ** CONFIG_BITS_ECAM), offset % 2 ** CONFIG_BITS_ECAM, width, value),
    };
  }

  get windows(): PciWindows {
    return this.topology.windows;
  }

  /** Puts a device in a slot of bus 0, alike in every thread, with its fixed ranges if it has any. Function 0 of a slot comes first. */
  add(device: PciDevice, slot: number, number = 0): void {
    this.#build(device, slot, number);
    this.topology.addFixed(device);
    this.#present[slot * FUNCTIONS + number] = 1;
  }

  // Devices that come and go while guests run:
  //   plug (every thread) → publish (once) → … → withdraw (once) → unplug (every thread).
  // Between them each thread must have said that it is done: then no thread knows less than guests see, and none uses what is gone.

  /** The functions of a device, function 0 first, in a slot of this thread; guests do not see them yet. It must have no fixed ranges. */
  plug(functions: readonly PciDevice[], slot: number): void {
    const fixed = functions.find(({ ranges }) => ranges.length > 0);
    if (fixed !== undefined) throw new RangeError(`${fixed.label} has ranges that cannot come and go`);
    functions.forEach((device, number) => this.#build(device, slot, number));
  }

  /** Guests see the device, as after power-on. Topology lock not held. */
  publish(slot: number): void {
    this.topology.run(() => {
      for (const { number, device } of this.#inSlot(slot)) {
        device.mutex.run(() => device.config.reset());
        this.#present[slot * FUNCTIONS + number] = 1;
      }
    });
  }

  /** Guests see nothing of the device any more; what they do to where it was goes nowhere. Topology lock not held. */
  withdraw(slot: number): void {
    this.topology.run(() => {
      const inSlot = this.#inSlot(slot);
      this.topology.withdraw(inSlot.map(({ device }) => device));
      for (const { number } of inSlot) this.#present[slot * FUNCTIONS + number] = 0;
    });
  }

  /** The slot is empty in this thread. */
  unplug(slot: number): void {
    for (const { number, device } of this.#inSlot(slot)) {
      this.topology.removeFunction(device);
      this.#devices[slot * FUNCTIONS + number] = undefined;
    }
  }

  #inSlot(slot: number): { number: number; device: PciDevice }[] {
    return this.#devices.slice(slot * FUNCTIONS, (slot + 1) * FUNCTIONS).flatMap((device, number) => (device === undefined ? [] : [{ number, device }]));
  }

  #build(device: PciDevice, slot: number, number: number): void {
    const order = slot * FUNCTIONS + number;
    const first = this.#devices[slot * FUNCTIONS];
    if (!(slot >= 0 && slot < SLOTS && number >= 0 && number < FUNCTIONS)) throw new RangeError(`${device.label}: there is no slot ${slot}.${number}`);
    if (this.#devices[order] !== undefined) throw new RangeError(`${device.label}: slot ${slot}.${number} has ${this.#devices[order].label}`);
    if (number > 0 && first === undefined) throw new RangeError(`${device.label}: slot ${slot} has no function 0`);
    if (number > 0) first!.config.markMultiFunction();
    this.#devices[order] = device;
    if (device.config.interruptPin !== 0) device.config.attachIntx(this.intx.pin(device.config, slot, number));
    this.topology.addFunction(device, order);
  }

  /** Every function that guests see, in slot order, with its place. */
  functions(): { slot: number; number: number; device: PciDevice }[] {
    return this.#devices.flatMap((device, order) => (device === undefined || this.#present[order] === 0 ? [] : [{ slot: Math.floor(order / FUNCTIONS), number: order % FUNCTIONS, device }]));
  }

  /**
   * Power-on: every configuration space as it begins, nothing decodes but what is fixed, both bus tables published. The machine calls it on the
   * control thread, with no vCPU running, once at start and at every reset, beside each device's own reset().
   */
  reset(): void {
    this.topology.run(() => {
      this.#latch[0] = 0;
      this.topology.reset();
      this.intx.reset();
    });
  }

  // Configuration transactions: within one dword, topology lock held.

  /** @param place bus * 256 + slot * 8 + function. @returns all ones where no function is. */
  read(place: number, register: number, width: Width): number {
    const device = this.#at(place);
    if (device === undefined) return allOnes(width);
    return device.configRead === undefined ? device.config.read(register, width) : device.configRead(register, width);
  }

  #at(place: number): PciDevice | undefined {
    return place < SLOTS * FUNCTIONS && this.#present[place] !== 0 ? this.#devices[place] : undefined;
  }

  write(place: number, register: number, width: Width, value: number): void {
    const device = this.#at(place);
    if (device !== undefined) this.topology.write(device, register, width, value);
  }

  // An ECAM access of any alignment: one that crosses a dword is cut into bytes, which may be the next function's.

  #readWhole(place: number, register: number, width: Width): number {
    if ((register & 3) + width <= 4) return this.read(place, register, width);
    let value = 0;
    for (let byte = width - 1; byte >= 0; byte--) {
      const at = register + byte;
      value = value * 256 + this.read(place + (at >> CONFIG_BITS_ECAM), at & 0xfff, 1);
    }
    return value;
  }

  #writeWhole(place: number, register: number, width: Width, value: number): void {
    if ((register & 3) + width <= 4) {
      this.write(place, register, width, value);
      return;
    }
    for (let byte = 0; byte < width; byte++) {
      const at = register + byte;
      this.write(place + (at >> CONFIG_BITS_ECAM), at & 0xfff, 1, (value >>> (8 * byte)) & 0xff);
    }
  }

  // Ports.

  #readPorts(offset: number, width: Width): number {
    if (offset === 0 && width === 4) return this.#latch[0]!;
    if (offset === RESET_OFFSET && width === 1) return this.#reset((handler) => handler.read(0, 1)) ?? 0xff;
    if (offset < DATA_OFFSET) {
      if (offset + width <= DATA_OFFSET) return allOnes(width);
      let value = 0;
      for (let byte = width - 1; byte >= 0; byte--) value = value * 256 + (offset + byte < DATA_OFFSET ? 0xff : this.#readPorts(offset + byte, 1));
      return value;
    }
    const latch = this.#latch[0]!;
    if ((latch & LATCH_ENABLE) === 0) return allOnes(width);
    return this.read((latch >>> 8) & 0xffff, (latch & 0xfc) + (offset - DATA_OFFSET), width);
  }

  #writePorts(offset: number, width: Width, value: number): void {
    if (offset === 0 && width === 4) this.#latch[0] = value & LATCH_BITS;
    else if (offset === RESET_OFFSET && width === 1) this.#reset((handler) => handler.write(0, 1, value));
    else if (offset >= DATA_OFFSET) {
      const latch = this.#latch[0]!;
      if ((latch & LATCH_ENABLE) !== 0) this.write((latch >>> 8) & 0xffff, (latch & 0xfc) + (offset - DATA_OFFSET), width, value);
    } else {
      for (let byte = DATA_OFFSET - offset; byte < width; byte++) this.#writePorts(offset + byte, 1, (value >>> (8 * byte)) & 0xff);
    }
  }

  #reset<T>(access: (handler: Handler) => T): T | undefined {
    const register = this.#resetRegister;
    if (register === undefined) return undefined;
    return register.mutex.run(() => access(register.handler));
  }
}
