// A TAP interface that somebody prepared for this user: the kernel's end of it is an interface of the host, on a bridge or routed as its
// administrator likes; ours is a descriptor for each queue that gives and takes frames with a header before each (vnet-header.ts), which says what
// checksums and segments are left to do. Documentation/networking/tuntap.rst. Nothing of the host is changed: what is not prepared is refused with
// the commands that prepare it.
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { VitrineError } from '../../shared/errors.ts';
import { close, errno, ioctlStruct, ioctlValue, open, O_RDWR, SystemError } from '../kvm/libc.ts';
import { nonBlocking } from './calls.ts';
import {
  IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_UP, IFF_VNET_HDR, IFNAMSIZ, IFREQ_BYTES, TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN,
  TUN_F_USO4, TUN_F_USO6, TUNSETIFF, TUNSETOFFLOAD, TUNSETQUEUE, TUNSETVNETHDRSZ,
} from './tun-ioctls.ts';
import { HEADER_BYTES } from './vnet-header.ts';

const CLONE = '/dev/net/tun';
/** As the kernel wants names: no slash, no space, not "." or "..". */
export const INTERFACE_NAME = /^(?!\.{1,2}$)[^\s/:]{1,15}$/;

const EINVAL = 22;

/** What a guest may leave undone in frames that it gets; what it leaves undone itself the kernel always takes. */
export interface GuestOffloads {
  readonly checksum: boolean;
  readonly tcp4: boolean;
  readonly tcp6: boolean;
  readonly ecn: boolean;
  readonly udp: boolean;
}

export const NO_OFFLOADS: GuestOffloads = { checksum: false, tcp4: false, tcp6: false, ecn: false, udp: false };

export interface Tap {
  readonly name: string;
  /** A descriptor for each queue; they do not block. */
  readonly queues: readonly number[];
  /** Whether the kernel segments UDP too (USO, Linux 6.2). */
  readonly udpSegments: boolean;
  readonly mtu: number;
  /** False when the interface is down on the host: frames are lost until its administrator sets it up. */
  readonly up: boolean;
}

const sysfs = (name: string, file: string, sys: string): string | undefined => {
  try {
    return readFileSync(`${sys}/class/net/${name}/${file}`, 'utf8').trim();
  } catch {
    return undefined;
  }
};

/** The commands that prepare it. */
export function tapCommands(name: string, queues: number, user = userInfo().username): string {
  return `sudo ip tuntap add dev ${name} mode tap user ${user}${queues > 1 ? ' multi_queue' : ''} && sudo ip link set ${name} up`;
}

/**
 * Opens the interface's queues. Throws VitrineError with what is missing and the commands that bring it.
 * @param queues pairs of queues: more than one only if the interface was made for that
 */
export function openTap(name: string, queues = 1, sys = '/sys'): Tap {
  const refuse = (why: string, remedy: string, code: string): never => {
    throw new VitrineError({ attempted: 'connect the machine to the network', on: name, why, remedy, code });
  };
  const prepare = `Have an administrator make it: ${tapCommands(name, queues)}. For a bridge also: sudo ip link set ${name} master br0 (the bridge's name).`;
  const other = `Choose another name, and have an administrator make that interface: ${tapCommands('tap0', queues)}.`;
  if (!INTERFACE_NAME.test(name)) return refuse('a network interface has a name of 1 to 15 characters without spaces and slashes.', 'Give the name of the interface as "ip link" shows it.', 'bad-tap-name');
  const flags = sysfs(name, 'tun_flags', sys);
  if (flags === undefined) {
    if (sysfs(name, 'ifindex', sys) === undefined) return refuse('this computer has no such network interface.', prepare, 'no-such-tap');
    return refuse('this network interface is no TAP interface.', other, 'not-a-tap');
  }
  const kind = Number(flags);
  if ((kind & IFF_TAP) === 0) return refuse('this network interface carries IP packets (TUN), not Ethernet frames (TAP).', other, 'not-a-tap');
  const many = (kind & IFF_MULTI_QUEUE) !== 0;
  const anew = `Have an administrator make it anew: sudo ip link delete ${name} && ${tapCommands(name, queues)}.`;
  if (queues > 1 && !many) return refuse(`it was made with one queue, and ${queues} were asked for.`, `${anew} Or ask for one queue.`, 'tap-one-queue');

  const opened: number[] = [];
  try {
    for (let index = 0; index < queues; index++) opened.push(openQueue(many));
    for (const fd of opened) {
      setOffloads(fd, NO_OFFLOADS);
      ioctlStruct(fd, TUNSETVNETHDRSZ, new Uint8Array(Int32Array.of(HEADER_BYTES).buffer));
    }
    const udpSegments = ioctlValue(opened[0]!, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6) === 0;
    for (const fd of opened) {
      setOffloads(fd, NO_OFFLOADS);
      nonBlocking(fd);
    }
    return { name, queues: opened, udpSegments, mtu: Number(sysfs(name, 'mtu', sys) ?? 1500), up: (Number(sysfs(name, 'flags', sys) ?? IFF_UP) & IFF_UP) !== 0 };
  } catch (thrown) {
    for (const fd of opened) close(fd);
    if (!(thrown instanceof SystemError)) throw thrown;
    if (thrown.code === 'ENOENT' || thrown.code === 'ENODEV' || thrown.code === 'ENXIO') return refuse(`${CLONE} is not there: the kernel's module "tun" is not loaded.`, 'Have an administrator load it: sudo modprobe tun.', 'no-tun');
    if (thrown.code === 'EACCES') return refuse(`this user may not open ${CLONE}.`, `Have an administrator allow it: sudo chmod 666 ${CLONE}, as distributions have it.`, 'no-tun');
    if (thrown.code === 'EPERM') return refuse(`it belongs to ${ownerWords(sysfs(name, 'owner', sys))}.`, anew, 'tap-not-owned');
    if (thrown.code === 'EBUSY') return refuse('another program uses it.', `Stop the machine that has it, or ${anew.charAt(0).toLowerCase()}${anew.slice(1)}`, 'tap-in-use');
    if (thrown.code === 'E2BIG') return refuse('all its queues are in use.', 'Stop the machine that has it.', 'tap-in-use');
    return refuse(`the kernel refuses it (${thrown.message}).`, anew, 'tap-refused');
  }

  function openQueue(many: boolean): number {
    const fd = open(CLONE, O_RDWR);
    const request = new Uint8Array(IFREQ_BYTES);
    request.set(new TextEncoder().encode(name).subarray(0, IFNAMSIZ - 1));
    new DataView(request.buffer).setUint16(IFNAMSIZ, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (many ? IFF_MULTI_QUEUE : 0), true);
    if (ioctlStruct(fd, TUNSETIFF, request) === 0) return fd;
    const number = errno();
    close(fd);
    throw new SystemError(`TUNSETIFF ${name}`, number);
  }
}

const NOBODY = '-1';

function ownerWords(owner: string | undefined): string {
  return owner === undefined || owner === NOBODY ? 'the administrator alone' : `the user with the id ${owner}`;
}

/** What the guest takes undone from now on. Without its word for checksums nothing else counts. Throws SystemError. */
export function setOffloads(fd: number, { checksum, tcp4, tcp6, ecn, udp }: GuestOffloads): void {
  const flags = !checksum ? 0 : TUN_F_CSUM | (tcp4 ? TUN_F_TSO4 : 0) | (tcp6 ? TUN_F_TSO6 : 0) | (ecn && (tcp4 || tcp6) ? TUN_F_TSO_ECN : 0) | (udp && tcp4 && tcp6 ? TUN_F_USO4 | TUN_F_USO6 : 0);
  if (ioctlValue(fd, TUNSETOFFLOAD, flags) !== 0) throw new SystemError('TUNSETOFFLOAD', errno());
}

/** Whether the kernel gives frames to this queue of several. Nothing happens when it is so already. */
export function attachQueue(fd: number, attached: boolean): void {
  const request = new Uint8Array(IFREQ_BYTES);
  new DataView(request.buffer).setUint16(IFNAMSIZ, attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE, true);
  if (ioctlStruct(fd, TUNSETQUEUE, request) !== 0 && errno() !== EINVAL) throw new SystemError('TUNSETQUEUE', errno());
}
