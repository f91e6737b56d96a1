// /dev/vhost-vsock: the host's kernel serves the rings of a socket device itself (linux/vhost.h, linux/vhost_types.h). Everything that it is told of
// is an address of this process; it reads and writes guest RAM by the table of SET_MEM_TABLE alone.
import { VitrineError } from '../../../shared/errors.ts';
import { close, EACCES, EADDRINUSE, ENODEV, ENOENT, ENXIO, EPERM, errno, errnoName, ioctlStruct, ioctlValue, O_RDWR, open, SystemError } from '../../kvm/libc.ts';
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { QueuePlace } from '../queue/virtqueue.ts';

const DEVICE = '/dev/vhost-vsock';

// Requests, in the order of linux/vhost.h.
const request = (direction: number, number: number, bytes: number): number => direction * 2 ** 30 + bytes * 2 ** 16 + 0xaf * 2 ** 8 + number;
const WRITE = 1;
const READ = 2;
const GET_FEATURES = request(READ, 0x00, 8);
const SET_FEATURES = request(WRITE, 0x00, 8);
const SET_OWNER = request(0, 0x01, 0);
const SET_MEM_TABLE = request(WRITE, 0x03, 8);
const SET_VRING_NUM = request(WRITE, 0x10, 8);
const SET_VRING_ADDR = request(WRITE, 0x11, 40);
const SET_VRING_BASE = request(WRITE, 0x12, 8);
const SET_VRING_KICK = request(WRITE, 0x20, 8);
const SET_VRING_CALL = request(WRITE, 0x21, 8);
const SET_VRING_ERR = request(WRITE, 0x22, 8);
const VSOCK_SET_GUEST_CID = request(WRITE, 0x60, 8);
const VSOCK_SET_RUNNING = request(WRITE, 0x61, 4);

/** The most that vhost takes unless its module is told otherwise. */
const MAX_REGIONS = 64;

export class VhostVsock {
  readonly #fd: number;
  /** The low and the high 32 of the features that the kernel can. */
  readonly features: readonly [number, number];

  /** Opens the device for guest number `cid`. Throws VitrineError. @param on for messages */
  constructor(ram: GuestMemory, cid: number, on: string) {
    this.#fd = openDevice(on);
    try {
      this.#value(SET_OWNER, 0);
      const features = this.#struct(GET_FEATURES, 8);
      this.features = [features.getUint32(0, true), features.getUint32(4, true)];
      this.#describe(ram, on);
      this.#claim(cid, on);
    } catch (thrown) {
      close(this.#fd);
      if (thrown instanceof SystemError) throw problem(on, `the host's kernel refuses it (${thrown.message}).`, '', 'vsock-failed');
      throw thrown;
    }
  }

  #describe(ram: GuestMemory, on: string): void {
    const { windows } = ram;
    if (windows.length > MAX_REGIONS) throw problem(on, `the machine's memory is more than the host's kernel takes (${windows.length} regions).`, 'Give the machine less memory.', 'vsock-memory');
    this.#struct(SET_MEM_TABLE, 8 + 32 * windows.length, (view) => {
      view.setUint32(0, windows.length, true);
      windows.forEach(({ gpa, size }, i) => [gpa, size, ram.windowHva(i)].forEach((value, field) => set64(view, 8 + 32 * i + 8 * field, value)));
    });
  }

  #claim(cid: number, on: string): void {
    try {
      this.#struct(VSOCK_SET_GUEST_CID, 8, (view) => view.setUint32(0, cid, true));
    } catch (thrown) {
      if (!(thrown instanceof SystemError) || thrown.errno !== EADDRINUSE) throw thrown;
      throw problem(on, `another machine has the number ${cid}.`, 'Give this one another cid.', 'cid-in-use');
    }
  }

  /** The kernel serves these queues from now on. @param features that the driver negotiated, of those that the kernel can. Throws SystemError. */
  start(ram: GuestMemory, features: readonly [number, number], queues: readonly { place: QueuePlace; kick: number; call: number; error: number }[]): void {
    this.#struct(SET_FEATURES, 8, (view) => features.forEach((word, i) => view.setUint32(4 * i, word, true)));
    queues.forEach(({ place, kick, call, error }, index) => {
      const pair = (number: number, value: number): void => void this.#struct(number, 8, (view) => {
        view.setUint32(0, index, true);
        view.setInt32(4, value, true);
      });
      pair(SET_VRING_NUM, place.size);
      pair(SET_VRING_BASE, 0);
      this.#struct(SET_VRING_ADDR, 40, (view) => {
        view.setUint32(0, index, true);
        [place.descriptors, place.device, place.driver].forEach((gpa, i) => set64(view, 8 + 8 * i, hvaOf(ram, gpa)));
      });
      pair(SET_VRING_KICK, kick);
      pair(SET_VRING_CALL, call);
      pair(SET_VRING_ERR, error);
    });
    this.run(true);
  }

  /** Goes on, or stops at the end of what it does: nothing is touched then when this returns. Throws SystemError. */
  run(on: boolean): void {
    this.#struct(VSOCK_SET_RUNNING, 4, (view) => view.setUint32(0, on ? 1 : 0, true));
  }

  close(): void {
    close(this.#fd);
  }

  #value(number: number, value: number): void {
    if (ioctlValue(this.#fd, number, value) < 0) throw new SystemError(`vhost request ${(number & 0xff).toString(16)}`, errno());
  }

  #struct(number: number, bytes: number, fill: (view: DataView) => void = () => {}): DataView {
    const struct = new Uint8Array(bytes);
    const view = new DataView(struct.buffer);
    fill(view);
    if (ioctlStruct(this.#fd, number, struct) < 0) throw new SystemError(`vhost request ${(number & 0xff).toString(16)}`, errno());
    return view;
  }
}

function set64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** Of a ring, which was found to be in RAM. */
function hvaOf(ram: GuestMemory, gpa: number): number {
  const window = ram.windowAt(gpa);
  return ram.windowHva(window) + gpa - ram.windows[window]!.gpa;
}

function problem(on: string, why: string, remedy: string, code: string): VitrineError {
  return new VitrineError({ attempted: 'give the guest sockets', on, why, remedy, code });
}

function openDevice(on: string): number {
  try {
    return open(DEVICE, O_RDWR);
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown;
    if (thrown.errno === ENOENT || thrown.errno === ENODEV || thrown.errno === ENXIO) throw problem(on, `this computer has no ${DEVICE}.`, 'Load the module: sudo modprobe vhost_vsock.', 'no-vhost-vsock');
    if (thrown.errno === EACCES || thrown.errno === EPERM) throw problem(on, `you may not open ${DEVICE}.`, 'It is for members of the group kvm: sudo usermod -aG kvm $USER, then log in again.', 'vhost-vsock-denied');
    throw problem(on, `${DEVICE} cannot be opened (${errnoName(thrown.errno)}).`, '', 'vsock-failed');
  }
}
