// A virtio device with its backend in one thread, for tests: three instances of the transport over one arena, as vCPUs' threads have them, a fourth in
// the "Worker", and a loop that the test turns. `setUp` does what a driver does; driver.ts has the driver's side of the queues.
import { FakePlatform } from '../../testing/fake-platform.ts';
import { allocateWindow } from '../../memory/window.ts';
import { GuestMemory } from '../../memory/guest-memory.ts';
import { FakeMsi } from '../../pci/testing.ts';
import type { Mutex } from '../../sync/mutex.ts';
import { EventLoop } from '../../io/event-loop.ts';
import { close, eventfd } from '../../kvm/libc.ts';
import type { Width } from '../../bus/handler.ts';
import type { Backend, BackendHost } from '../backend.ts';
import * as c from '../constants.ts';
import type { VirtioModel } from '../model.ts';
import type { DeviceNews } from '../news.ts';
import { VirtioPci } from '../pci.ts';
import { DeviceRunner } from '../runner.ts';
import { DriverQueue } from './driver.ts';

export const RAM_BYTES = 16 * 2 ** 20;
/** Of RAM: where the first ring or buffer goes. */
export const FIRST_FREE = 0x10_0000;
const BAR = 4;
const TABLE_BAR = 1;
const NOTIFY = 0x3000;
const MSIX_ENABLE = 0x8000;

export interface RigOptions {
  readonly model: VirtioModel;
  readonly backend: (host: BackendHost) => Backend;
  /** Packed rings are offered. */
  readonly packed?: boolean;
}

export class VirtioRig {
  readonly platform = new FakePlatform();
  readonly msi = new FakeMsi();
  readonly loop = new EventLoop();
  readonly ram: GuestMemory;
  readonly runner: DeviceRunner;
  readonly news: DeviceNews[] = [];
  readonly #devices: VirtioPci[];
  #turn = 0;
  /** Where the next ring or buffer goes. */
  #free = FIRST_FREE;

  constructor({ model, backend, packed = false }: RigOptions) {
    const window = allocateWindow(RAM_BYTES);
    this.ram = new GuestMemory([{ gpa: 0, size: RAM_BYTES, buffer: window.buffer, offset: 0 }]);
    const wires = { control: eventfd(), kicks: model.queues.map(() => eventfd()) };
    const make = (platform: FakePlatform): VirtioPci => {
      const device = new VirtioPci(platform, this.msi, { slot: 5, model, packed, wires, resetWait: 0 });
      device.config.attachIntx({ set: (level) => void platform.irqLine(16, 'test').set(level), refresh: () => {} });
      return device;
    };
    const first = make(this.platform);
    this.#devices = [first, make(this.platform.peer()), make(this.platform.peer())];
    first.config.reset();
    first.reset();
    // Memory decode and bus master, MSI-X on.
    first.config.store(4, 0x6);
    const msix = first.config.read(0x34, 1);
    first.config.store(msix, first.config.dword(msix) | (MSIX_ENABLE << 16));
    this.runner = new DeviceRunner({ device: make(this.platform.peer()), loop: this.loop, ram: this.ram, makeBackend: backend, tell: (news) => this.news.push(news) });
  }

  /** Any of the instances: state that is hidden outside the arena shows at once. */
  get device(): VirtioPci {
    return this.#devices[this.#turn++ % this.#devices.length]!;
  }

  /** Of guest RAM that nothing else in the test has: `bytes` of it, aligned to `align`. */
  allocate(bytes: number, align = 16): number {
    const at = Math.ceil(this.#free / align) * align;
    this.#free = at + bytes;
    if (this.#free > RAM_BYTES) throw new Error('the rig is out of RAM');
    return at;
  }

  /** RAM from `address` on is free again: what was allocated there is used no more. */
  rewind(address: number): void {
    this.#free = address;
  }

  // The driver's accesses.

  #locked<T>(mutex: Mutex, act: () => T): T {
    return mutex.run(act);
  }

  read(offset: number, width: Width, bar = BAR): number {
    const { device } = this;
    return this.#locked(device.mutex, () => device.config.bars.find(({ index }) => index === bar)!.handler.read(offset, width));
  }

  write(offset: number, width: Width, value: number, bar = BAR): void {
    const { device } = this;
    this.#locked(device.mutex, () => device.config.bars.find(({ index }) => index === bar)!.handler.write(offset, width, value));
  }

  get status(): number {
    return this.read(0x14, 1);
  }
  set status(value: number) {
    this.write(0x14, 1, value);
  }

  /** Feature numbers that the device offers. */
  offered(): number[] {
    const found: number[] = [];
    for (let word = 0; word < 2; word++) {
      this.write(0, 4, word);
      const bits = this.read(4, 4);
      for (let bit = 0; bit < 32; bit++) if ((bits & (1 << bit)) !== 0) found.push(word * 32 + bit);
    }
    return found;
  }

  wantFeatures(features: readonly number[]): void {
    for (let word = 0; word < 2; word++) {
      this.write(8, 4, word);
      this.write(0xc, 4, features.filter((each) => each >>> 5 === word).reduce((bits, each) => (bits | (1 << (each & 31))) >>> 0, 0));
    }
  }

  /** Turns the loop until nothing happens for a while: what the Worker would do by now. */
  work(turns = 8, milliseconds = 0): void {
    for (let i = 0; i < turns; i++) this.loop.turn(milliseconds);
  }

  /** The driver gives queue `index` to the device. */
  enable(index: number, size: number, features: readonly number[]): DriverQueue {
    this.write(0x16, 2, index);
    this.write(0x18, 2, size);
    this.write(0x1a, 2, index + 1);
    const vector = (index + 1) * 16;
    this.write(vector, 4, 0xfee0_0000, TABLE_BAR);
    this.write(vector + 8, 4, 0x40 + index + 1, TABLE_BAR);
    this.write(vector + 12, 4, 0, TABLE_BAR);
    const queue = new DriverQueue(this.ram, (bytes, align) => this.allocate(bytes, align), {
      size, packed: features.includes(c.F_RING_PACKED), eventIndex: features.includes(c.F_RING_EVENT_IDX), indirect: features.includes(c.F_RING_INDIRECT_DESC),
    });
    queue.areas.forEach((address, which) => {
      this.write(0x20 + 8 * which, 4, address);
      this.write(0x24 + 8 * which, 4, 0);
    });
    this.write(0x1c, 2, 1);
    return queue;
  }

  /**
   * Reset, features, queues, DRIVER_OK: what a driver does at its beginning (virtio 1.3 §3.1.1).
   * @param wanted of what is offered; all of it but packed rings unless told
   * @param queues numbers of those that it enables; all unless told
   * @returns the queues, by number
   */
  setUp({ wanted, size = 64, queues: enabled }: { wanted?: readonly number[]; size?: number; queues?: readonly number[] } = {}): DriverQueue[] {
    this.status = 0;
    this.status = c.STATUS_ACKNOWLEDGE;
    this.status = c.STATUS_ACKNOWLEDGE | c.STATUS_DRIVER;
    const offered = this.offered();
    const features = wanted ?? offered.filter((each) => each !== c.F_RING_PACKED);
    this.wantFeatures(features);
    this.status = c.STATUS_ACKNOWLEDGE | c.STATUS_DRIVER | c.STATUS_FEATURES_OK;
    if ((this.status & c.STATUS_FEATURES_OK) === 0) throw new Error('the device refuses these features');
    this.write(0x10, 2, 0);
    this.write(0, 4, 0xfee0_0000, TABLE_BAR);
    this.write(8, 4, 0x40, TABLE_BAR);
    this.write(12, 4, 0, TABLE_BAR);
    const queues: DriverQueue[] = [];
    this.runner.device.model.queues.forEach((most, index) => {
      if (enabled?.includes(index) ?? true) queues[index] = this.enable(index, Math.min(most, size), features);
    });
    this.status = c.STATUS_ACKNOWLEDGE | c.STATUS_DRIVER | c.STATUS_FEATURES_OK | c.STATUS_DRIVER_OK;
    this.work(2);
    return queues;
  }

  kick(index: number): void {
    this.write(NOTIFY + 4 * index, 2, index);
  }

  /** Messages since the last call: vector numbers, 0 for the configuration's. */
  interrupts(): number[] {
    return this.msi.sent.splice(0).map(({ data }) => data - 0x40);
  }

  /** The driver resets the device: in a test the vCPU and the Worker are one thread, so the vCPU's wait is in vain and the driver looks later. */
  resetDevice(): void {
    this.status = 0;
    this.work(4);
    if (this.status !== 0) throw new Error('the device is not reset');
  }

  close(): void {
    const left = new Set(['backend']);
    this.runner.drop(() => left.clear());
    for (let i = 0; i < 1000 && left.size > 0; i++) this.loop.turn(1);
    if (left.size > 0) throw new Error('the backend does not let go');
    this.loop.close();
    const { control, kicks } = this.runner.device.wires;
    for (const fd of [control, ...kicks]) close(fd);
  }
}
