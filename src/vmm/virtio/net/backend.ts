// The network card's work: frames between its queues and passt's socket or a TAP interface's queues, and the link that its driver sees.
//
// What is offered depends on where frames go:
//   passt  takes and gives whole frames, and never looks at the checksums of TCP and UDP that come to it: its sockets make their own. So the driver
//          need not make any (CSUM), nor look at those that come (GUEST_CSUM). It cuts nothing, so segmentation is not offered: frames as long as
//          passt takes them (MTU, net/passt-program.ts) do better, for they are long all the way.
//   TAP    the kernel finishes what the driver left undone: checksums, TCP segments, UDP segments where it can; and leaves the same undone.
// Left out: announcements (the link goes down and up when passt is another one, after which drivers do what they do for a new cable), RSS, hash reports,
// notification coalescing, device statistics.
import { attachQueue, type GuestOffloads, NO_OFFLOADS, setOffloads } from '../../net/tap.ts';
import type { Backend, BackendHost, DriverSession } from '../backend.ts';
import type { Virtqueue } from '../queue/virtqueue.ts';
import { SystemError } from '../../kvm/libc.ts';
import { Channel } from './channel.ts';
import { ControlQueue } from './control.ts';
import { RxFilter } from './filter.ts';
import { type NetConfig, pairsOf } from './model.ts';
import * as n from './numbers.ts';
import { type Agreed, FRAMES_A_TURN, type Receiver, type Transmitter } from './path.ts';
import type { NetMail, NetPrepared } from './prepared.ts';
import { StreamReceiver } from './stream-receive.ts';
import { StreamTransmitter } from './stream-transmit.ts';
import { TapReceiver } from './tap-receive.ts';
import { TapTransmitter } from './tap-transmit.ts';

const MAC_BYTES = 6;

/** Features that depend on where frames go; the others are the model's. */
function offeredFeatures(prepared: NetPrepared): number[] {
  if (prepared.kind === 'none') return [];
  if (prepared.kind === 'user') return [n.VIRTIO_NET_F_MTU];
  return [
    n.VIRTIO_NET_F_MTU, n.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, n.VIRTIO_NET_F_CTRL_VLAN,
    n.VIRTIO_NET_F_HOST_TSO4, n.VIRTIO_NET_F_HOST_TSO6, n.VIRTIO_NET_F_HOST_ECN, n.VIRTIO_NET_F_GUEST_TSO4, n.VIRTIO_NET_F_GUEST_TSO6, n.VIRTIO_NET_F_GUEST_ECN,
    ...(prepared.udpSegments ? [n.VIRTIO_NET_F_HOST_USO, n.VIRTIO_NET_F_GUEST_USO4, n.VIRTIO_NET_F_GUEST_USO6] : []),
  ];
}

export class NetBackend implements Backend {
  readonly #host: BackendHost;
  readonly #prepared: NetPrepared;
  readonly #pairs: number;
  readonly #mac: Uint8Array;
  readonly #filter: RxFilter;
  readonly #control: ControlQueue;
  readonly #agreed: Agreed = { merged: false, checksum: false, segments: false, sends: NO_OFFLOADS };
  /** One for each pair in use by the host: none where there is no network. */
  #channels: Channel[] = [];
  #driver: DriverSession | undefined;
  #running = false;
  /** Pairs that the driver uses. */
  #used = 1;
  /** Whether somebody pulled the cable. */
  #plugged: boolean;
  #refused = false;

  constructor(host: BackendHost, config: NetConfig, prepared: NetPrepared) {
    this.#host = host;
    this.#prepared = prepared;
    this.#pairs = pairsOf(config);
    this.#plugged = config.linkUp;
    this.#mac = host.config.bytes.slice(n.CONFIG_MAC, n.CONFIG_MAC + MAC_BYTES);
    this.#filter = new RxFilter(this.#mac);
    this.#control = new ControlQueue({ filter: this.#filter, pairs: this.#pairs, usePairs: (count) => this.#usePairs(count), takeOffloads: (has) => this.#takeOffloads(has) });
    for (const feature of offeredFeatures(prepared)) host.offer(feature);
    if (prepared.kind !== 'none') host.config.view.setUint16(n.CONFIG_MTU, prepared.mtu, true);
    if (prepared.kind === 'tap') this.#openTap(prepared.queues, prepared.mtu);
    host.config.view.setUint16(n.CONFIG_STATUS, this.#carrier ? n.VIRTIO_NET_S_LINK_UP : 0, true);
  }

  #openTap(queues: readonly number[], mtu: number): void {
    const agreed = this.#agreed;
    queues.forEach((fd, pair) => {
      const receiver = new TapReceiver({ fd, agreed, mtu, filter: this.#filter });
      this.#open(fd, pair, receiver, new TapTransmitter(fd, agreed, { refuse: (why) => this.#refuse(why) }), false);
    });
    this.#attach(1);
  }

  #open(fd: number, pair: number, receiver: Receiver, transmitter: Transmitter, drains: boolean): void {
    const channel: Channel = new Channel({
      loop: this.#host.loop, fd, receiver, transmitter, drains,
      queues: { receive: () => this.#driver?.queue(2 * pair), transmit: () => this.#driver?.queue(2 * pair + 1) },
      completed: (queue) => this.#driver?.completed(queue),
      gone: () => this.#gone(channel),
    });
    this.#channels[pair] = channel;
  }

  #gone(channel: Channel): void {
    this.#host.log(this.#prepared.kind === 'tap' ? `the interface ${this.#prepared.name} is not there any more: the card has no network until the machine is started anew` : 'passt is not there any more');
    this.#channels = this.#prepared.kind === 'tap' ? this.#closeAll() : this.#channels.filter((each) => each !== channel);
    this.#showLink();
    this.#dropSent();
  }

  #closeAll(): [] {
    for (const channel of this.#channels) channel.close();
    return [];
  }

  /** The first thing that a driver sends and may not is worth a line, the others are the same. */
  #refuse(why: string): void {
    if (this.#refused) return;
    this.#refused = true;
    this.#host.log(`the driver sent a frame that cannot be carried: ${why}; such frames are thrown away`);
  }

  get #carrier(): boolean {
    return this.#plugged && this.#channels.length > 0;
  }

  #showLink(): void {
    const status = this.#carrier ? n.VIRTIO_NET_S_LINK_UP : 0;
    if (this.#host.config.view.getUint16(n.CONFIG_STATUS, true) === status) return;
    this.#host.config.update((view) => view.setUint16(n.CONFIG_STATUS, status, true));
  }

  start(driver: DriverSession): void {
    this.#driver = driver;
    this.#refused = false;
    const has = (feature: number): boolean => driver.has(feature);
    this.#filter.reset(this.#mac, has(n.VIRTIO_NET_F_CTRL_RX), has(n.VIRTIO_NET_F_CTRL_VLAN));
    this.#agreed.merged = has(n.VIRTIO_NET_F_MRG_RXBUF);
    this.#agreed.sends = { checksum: has(n.VIRTIO_NET_F_CSUM), tcp4: has(n.VIRTIO_NET_F_HOST_TSO4), tcp6: has(n.VIRTIO_NET_F_HOST_TSO6), ecn: has(n.VIRTIO_NET_F_HOST_ECN), udp: has(n.VIRTIO_NET_F_HOST_USO) };
    this.#takeOffloads(has);
    this.#attach(1);
    this.#running = true;
    this.#serve();
  }

  /** What the driver takes unfinished, from now on. */
  #takeOffloads(has: (feature: number) => boolean): boolean {
    const checksum = has(n.VIRTIO_NET_F_GUEST_CSUM);
    const offloads: GuestOffloads = {
      checksum, tcp4: checksum && has(n.VIRTIO_NET_F_GUEST_TSO4), tcp6: checksum && has(n.VIRTIO_NET_F_GUEST_TSO6), ecn: has(n.VIRTIO_NET_F_GUEST_ECN),
      udp: checksum && has(n.VIRTIO_NET_F_GUEST_USO4) && has(n.VIRTIO_NET_F_GUEST_USO6),
    };
    if (this.#prepared.kind === 'tap' && this.#channels.length > 0) {
      try {
        setOffloads(this.#prepared.queues[0]!, offloads); // of the interface, whichever queue says it
      } catch (thrown) {
        if (!(thrown instanceof SystemError)) throw thrown;
        this.#host.log(`the interface ${this.#prepared.name} refuses the driver's offloads: ${thrown.message}`);
        return false;
      }
    }
    this.#agreed.checksum = checksum;
    this.#agreed.segments = offloads.tcp4 || offloads.tcp6 || offloads.udp;
    return true;
  }

  #usePairs(count: number): void {
    this.#attach(count);
    this.#serve();
  }

  /** The kernel spreads frames over the first `count` queues of the interface. */
  #attach(count: number): void {
    this.#used = count;
    if (this.#prepared.kind !== 'tap' || this.#pairs === 1 || this.#channels.length === 0) return;
    this.#prepared.queues.forEach((fd, pair) => {
      const channel = this.#channels[pair]!;
      if (pair >= count) channel.detach(() => attachQueue(fd, false));
      else channel.attach(() => attachQueue(fd, true));
    });
  }

  /** Every pair in use between driver and net, or off it. */
  #serve(): void {
    this.#channels.forEach((channel, pair) => {
      if (!this.#running) channel.still();
      else if (this.#plugged && pair < this.#used) channel.serve();
      else channel.off();
    });
  }

  kicked(index: number): void {
    const driver = this.#driver!;
    const queue = driver.queue(index);
    if (queue === undefined) return;
    if (index === (driver.has(n.VIRTIO_NET_F_MQ) ? 2 * this.#pairs : 2)) {
      if (this.#control.run(queue, driver)) this.#goOn(queue);
      return;
    }
    const channel = this.#channels[index >>> 1];
    if (index % 2 === 0) {
      if (channel?.serving === true) channel.receive();
    } else if (channel?.serving === true) channel.send();
    else this.#drop(queue);
  }

  /** A card without a cable sends into nothing. */
  #drop(queue: Virtqueue): void {
    for (let i = 0; i < FRAMES_A_TURN; i++) {
      const chain = queue.take();
      if (chain === null) {
        this.#driver!.completed(queue);
        return;
      }
      queue.complete(chain, 0);
    }
    this.#driver!.completed(queue);
    this.#goOn(queue);
  }

  /** The rest of what a queue has, when others had their turn. */
  #goOn(queue: Virtqueue): void {
    this.#host.loop.after(0, () => {
      if (this.#running && this.#driver?.queue(queue.index) === queue) this.kicked(queue.index);
    });
  }

  #dropSent(): void {
    if (!this.#running) return;
    for (let pair = 0; pair < this.#pairs; pair++) if (this.#channels[pair]?.serving !== true && this.#driver?.queue(2 * pair + 1) !== undefined) this.kicked(2 * pair + 1);
  }

  quiesce(done: () => void): void {
    this.#running = false;
    this.#serve();
    done();
  }

  resume(): void {
    this.#running = true;
    this.#serve();
  }

  stop(): void {
    this.#driver = undefined;
    for (const channel of this.#channels) channel.off();
  }

  /** Throws VitrineError never: the host's part of it is the control thread's. */
  mail(message: unknown): unknown {
    const mail = message as NetMail;
    if (mail.kind === 'link') this.#plugged = mail.up;
    else {
      this.#channels = this.#closeAll();
      if (mail.socket !== null) this.#connect(mail.socket);
    }
    this.#showLink();
    if (this.#running) {
      this.#serve();
      this.#dropSent();
    } else if (this.#driver === undefined) for (const channel of this.#channels) channel.off();
    return { link: this.#carrier };
  }

  #connect(socket: number): void {
    const agreed = this.#agreed;
    this.#open(socket, 0, new StreamReceiver({ fd: socket, agreed }), new StreamTransmitter(socket, agreed, { refuse: (why) => this.#refuse(why) }), true);
  }

  dispose(): void {
    this.#channels = this.#closeAll();
  }
}

