// A network card in a rig, for tests: a socket pair stands where passt or the TAP interface would be, and the test has its other end.
import { close } from '../../kvm/libc.ts';
import { nonBlocking, socketPair } from '../../net/calls.ts';
import { Vectors } from '../../net/vectors.ts';
import { F_RING_PACKED } from '../constants.ts';
import type { DriverQueue } from '../testing/driver.ts';
import { VirtioRig } from '../testing/rig.ts';
import { NetBackend } from './backend.ts';
import { netModel, type NetConfig } from './model.ts';

export const RX = 0;
export const TX = 1;
export const CONTROL = 2;
export const MAC = [0x52, 0x54, 0, 1, 2, 3];
const common = { kind: 'virtio-net', rings: 'split', mac: '52:54:00:01:02:03', linkUp: true } as const;

export interface Card {
  readonly rig: VirtioRig;
  readonly queues: DriverQueue[];
  /** The other end; it does not block. */
  readonly far: number;
}

const rigs = new Set<VirtioRig>();
const sockets = new Set<number>();

/** The cards first, then what they watched. */
export function closeCards(): void {
  for (const rig of rigs) rig.close();
  for (const fd of sockets) close(fd);
  rigs.clear();
  sockets.clear();
}

/** The test closes this end itself. */
export function closeNow(fd: number): void {
  sockets.delete(fd);
  close(fd);
}

function pair(kind: 'stream' | 'packets'): [number, number] {
  const ends = socketPair(kind);
  for (const fd of ends) {
    nonBlocking(fd);
    sockets.add(fd);
  }
  return ends;
}

/** Another end for a card whose network went. @param kind packets show what went in one call */
export function connect(rig: VirtioRig, kind: 'stream' | 'packets' = 'stream'): number {
  const [near, far] = pair(kind);
  rig.runner.mail({ kind: 'connect', socket: near });
  return far;
}

export interface CardOptions {
  readonly packed?: boolean;
  /** Of what is offered; all that the form of the ring allows unless told. */
  readonly wanted?: (offered: number[]) => number[];
  readonly size?: number;
}

function setUp(rig: VirtioRig, far: number, options: CardOptions): Card {
  rigs.add(rig);
  const offered = rig.offered();
  const wanted = options.wanted?.(offered) ?? (options.packed === true ? offered : offered.filter((each) => each !== F_RING_PACKED));
  const queues = rig.setUp({ wanted, size: options.size ?? 64 });
  rig.interrupts();
  return { rig, queues, far };
}

/** A card on a stream, as over passt. */
export function streamCard(options: CardOptions = {}): Card {
  const config: NetConfig = { ...common, backend: { kind: 'user', forwards: [] } };
  const rig = new VirtioRig({ model: netModel(config, 'm', 5), backend: (host) => new NetBackend(host, config, { kind: 'user', mtu: 32828 }), packed: options.packed ?? false });
  return setUp(rig, connect(rig), options);
}

/** A card on something that keeps frames apart, as TAP does. It knows no offloads: the driver's wish for them is refused. */
export function packetCard(options: CardOptions = {}): Card {
  const [near, far] = pair('packets');
  const config: NetConfig = { ...common, backend: { kind: 'tap', name: 'tap0', queues: 1 } };
  const prepared = { kind: 'tap', name: 'tap0', queues: [near], mtu: 1500, udpSegments: false } as const;
  const rig = new VirtioRig({ model: netModel(config, 'm', 5), backend: (host) => new NetBackend(host, config, prepared), packed: options.packed ?? false });
  return setUp(rig, far, options);
}

export function write(fd: number, bytes: Uint8Array): number {
  const list = new Vectors(bytes.length);
  list.scratch.set(bytes);
  list.addScratch(0, bytes.length);
  return list.write(fd);
}

/** What has come: a packet, or of a stream at most `most` bytes. */
export function read(fd: number, most = 2 ** 20): Uint8Array {
  const list = new Vectors(most);
  list.addScratch(0, most);
  return list.scratch.slice(0, Math.max(0, list.read(fd)));
}
