// The program `passt` (https://passt.top): a network for one machine from an ordinary user's sockets, with no rights and nothing changed on the
// host. Where it is, how new it is, what it is told, and what its complaints mean. Its running is passt.ts's business.
//
// The guest gets the address that the host itself has, by DHCP, NDP and DHCPv6, so that it reaches neither the host's own address nor, by
// --no-map-gw, what listens on the host's loopback interface. Where the host has no network, the guest gets addresses of a private network.
import { accessSync, constants, readFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { delimiter, isAbsolute, join } from 'node:path';
import { VitrineError } from '../../shared/errors.ts';

const USUAL_FOLDERS = ['/usr/bin', '/usr/local/bin', '/usr/sbin', '/usr/local/sbin', '/run/current-system/sw/bin'];

/** A port of the host that leads into the guest. */
export interface Forward {
  readonly protocol: 'tcp' | 'udp';
  /** Of the host, where it listens: 127.0.0.1 unless told; 0.0.0.0 or :: for every address. */
  readonly address?: string | undefined;
  readonly host: number;
  readonly guest: number;
}

export interface PasstProgram {
  readonly path: string;
  /** The day of its release as yyyymmdd; undefined for a build that does not say (Debian 12's). */
  readonly version: number | undefined;
  /** Whether it has to be told to write on standard error; later releases do so by themselves, and will not know the option. */
  readonly stderrOption: boolean;
}

/** Where there is no network: QEMU's addresses, which many know. */
const PRIVATE_NETWORK = ['--address', '10.0.2.15', '--netmask', '24', '--gateway', '10.0.2.2', '--mac-addr', '9a:55:9a:55:9a:55', '--interface', 'lo'];

const INSTALL = 'Install it: "sudo apt install passt" on Debian and Ubuntu, "sudo dnf install passt" on Fedora, "sudo pacman -S passt" on Arch Linux, "sudo zypper install passt" on openSUSE. Or choose a TAP interface, or no network.';

/** Throws VitrineError passt-missing. */
export function findPasst(env: NodeJS.ProcessEnv = process.env, usual: readonly string[] = USUAL_FOLDERS): PasstProgram {
  const folders = [...(env['PATH'] ?? '').split(delimiter).filter((folder) => isAbsolute(folder)), ...usual];
  for (const folder of folders) {
    const path = join(folder, 'passt');
    try {
      accessSync(path, constants.X_OK);
    } catch {
      continue;
    }
    return { path, version: parseVersion(said(path, '--version')), stderrOption: /--stderr\b/.test(said(path, '--help')) };
  }
  throw new VitrineError({
    attempted: 'connect the machine to the network', on: 'passt',
    why: 'the program passt is not installed. It carries a machine\'s network over an ordinary user\'s connections, with no administrator rights.',
    remedy: INSTALL, code: 'passt-missing',
  });
}

/** Early releases answer on standard error, later ones on standard output. */
function said(path: string, option: string): string {
  const { stdout, stderr } = spawnSync(path, [option], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  return `${stdout ?? ''}${stderr ?? ''}`;
}

/** 20240906 for "passt 0.0~git20240906.6b38f07-1" and for "passt 2024_09_06.6b38f07"; undefined for "passt unknown version". */
export function parseVersion(text: string): number | undefined {
  const found = /\b(?:git)?(20\d\d)_?(\d\d)_?(\d\d)\b/.exec(text.split('\n')[0]!.replace('~', ' '));
  return found === null ? undefined : Number(`${found[1]}${found[2]}${found[3]}`);
}

/** From this release on frames that found no room in the socket are sent again, and not at the next time-out, seconds later. */
const SENDS_AGAIN = 20240726;
/** Ethernet frames of 65534 bytes: the longest even payload below passt's limit of 65535 bytes a frame. */
const LARGEST_MTU = 65520;
/** So much room has a socket that takes whatever an earlier release sends at once. */
const AMPLE_ROOM = 4 * 2 ** 20;
/** Where it has less: as many frames as such a release sends at once (its TCP_FRAMES_MEM) have to fit into an empty socket. */
const BURST = 128;
/** Of each beside its packet: Ethernet header, length, its part of what the kernel needs for a block. */
const OF_FRAME = 128;
const CAREFUL_MTU_MOST = 9000;
const CAREFUL_MTU_LEAST = 1500;

/** Whether frames may be as long as passt takes them, for none gets lost. */
function losesNothing({ version }: Pick<PasstProgram, 'version'>, sendRoom: number): boolean {
  return (version !== undefined && version >= SENDS_AGAIN) || sendRoom >= AMPLE_ROOM;
}

/**
 * The most bytes of an IP packet that guest and passt may exchange. The longer, the quicker, unless frames get lost.
 * @param sendRoom the most that the host gives an ordinary user's socket (net.core.wmem_max); the kernel doubles it
 */
export function mtuFor(program: Pick<PasstProgram, 'version'>, sendRoom: number): number {
  if (losesNothing(program, sendRoom)) return LARGEST_MTU;
  return Math.max(CAREFUL_MTU_LEAST, Math.min(CAREFUL_MTU_MOST, Math.floor((2 * sendRoom) / BURST) - OF_FRAME));
}

/** For the log: why the network is slower than it could be, and what makes it quick; undefined when it is quick. */
export function whySlow(program: Pick<PasstProgram, 'version'>, sendRoom: number): string | undefined {
  if (losesNothing(program, sendRoom)) return undefined;
  return `passt is older than July 2024 and loses frames when its socket is full, so the guest gets an MTU of ${mtuFor(program, sendRoom)}. A newer passt makes the network quick, or sudo sysctl net.core.wmem_max=${AMPLE_ROOM}.`;
}

/** The part of the host's files that decides what passt is told. */
export interface HostNetwork {
  /** Whether any default route is there. */
  readonly routed: boolean;
  /** Name servers that passt would not find by itself. */
  readonly nameServers: readonly string[];
  /** net.core.wmem_max */
  readonly sendRoom: number;
}

export function readHostNetwork(root = '/'): HostNetwork {
  return { routed: hasDefaultRoute(root), nameServers: nameServersBeyond(root), sendRoom: Number(text(root, 'proc/sys/net/core/wmem_max')) };
}

function text(root: string, path: string): string {
  try {
    return readFileSync(join(root, path), 'utf8');
  } catch {
    return '';
  }
}

const RTF_UP = 0x1;
const RTF_GATEWAY = 0x2;

/** /proc/net/route and /proc/net/ipv6_route (Documentation/networking/proc_net_*). */
function hasDefaultRoute(root: string): boolean {
  const four = text(root, 'proc/net/route').split('\n').slice(1).map((line) => line.split('\t'));
  if (four.some(([, destination, , flags, , , , mask]) => destination === '00000000' && mask === '00000000' && (Number.parseInt(flags!, 16) & RTF_UP) !== 0)) return true;
  const six = text(root, 'proc/net/ipv6_route').split('\n').map((line) => line.trim().split(/\s+/));
  return six.some(([destination, bits, , , , , , , flags]) => destination === '0'.repeat(32) && bits === '00' && (Number.parseInt(flags!, 16) & RTF_GATEWAY) !== 0);
}

const isLoopback = (address: string): boolean => /^127\.|^::1$/.test(address);

/** A name server on the loopback interface is none for the guest: systemd-resolved has such a one, and tells its own in another file. */
function nameServersBeyond(root: string): string[] {
  const of = (path: string): string[] => [...text(root, path).matchAll(/^nameserver[ \t]+([0-9a-fA-F.:]+)[ \t]*$/gm)].map((match) => match[1]!);
  const own = of('etc/resolv.conf');
  if (own.length === 0 || own.some((address) => !isLoopback(address))) return [];
  return of('run/systemd/resolve/resolv.conf').filter((address) => !isLoopback(address) && !/^fe80:/i.test(address));
}

/** As passt reads it: "127.0.0.1/2222:22". */
export function portSpec({ address = '127.0.0.1', host, guest }: Forward): string {
  return `${address}/${host}:${guest}`;
}

/**
 * Its command line.
 * @param socket the number that its end of the socket pair has there
 */
export function passtArguments(program: PasstProgram, options: { socket: number; forwards: readonly Forward[]; network: HostNetwork }): string[] {
  const { socket, forwards, network } = options;
  const ports = (protocol: Forward['protocol'], flag: string): string[] => {
    const specs = forwards.filter((forward) => forward.protocol === protocol).map((forward) => portSpec(forward));
    return specs.length === 0 ? [flag, 'none'] : specs.flatMap((spec) => [flag, spec]);
  };
  return [
    '--foreground', '--quiet', ...(program.stderrOption ? ['--stderr'] : []), '--fd', String(socket), '--mtu', String(mtuFor(program, network.sendRoom)), '--no-map-gw',
    ...(network.routed ? [] : PRIVATE_NETWORK),
    ...network.nameServers.flatMap((address) => ['--dns', address]),
    ...ports('tcp', '--tcp-ports'), ...ports('udp', '--udp-ports'),
  ];
}

/** Throws VitrineError for what passt cannot do: it knows a port of the host once, whatever the address. */
export function checkForwards(forwards: readonly Forward[]): void {
  const seen = new Set<string>();
  for (const forward of forwards) {
    const { protocol, host } = forward;
    const key = `${protocol} ${host}`;
    if (seen.has(key)) throw forwardProblem(forward, `${protocol.toUpperCase()} port ${host} is forwarded twice, and one port leads to one place, whatever the address.`, 'Take another port for one of them.', 'forward-twice');
    seen.add(key);
  }
}

export function forwardProblem(forward: Forward, why: string, remedy: string, code: string): VitrineError {
  return new VitrineError({ attempted: `forward the ${forward.protocol.toUpperCase()} port ${forward.host} to the guest's ${forward.guest}`, on: portSpec(forward), why, remedy, code });
}

/** What it wrote on standard error, without what it says of a missing syslog. */
export function complaintsOf(words: string): string {
  return words.split('\n').map((line) => line.trim()).filter((line) => line !== '' && !/^Failed to send \d+ bytes to syslog|^Don't run as root/.test(line)).join('; ');
}

/** Why it ended before it served, as a problem. `refused` says why the port of a forward cannot be had. */
export async function startProblem(words: string, how: string, forwards: readonly Forward[], refused: (forward: Forward) => Promise<VitrineError | undefined>): Promise<VitrineError> {
  const complaint = complaintsOf(words);
  const problem = (why: string, remedy: string, code: string): VitrineError => new VitrineError({ attempted: 'connect the machine to the network', on: 'passt', why, remedy, code });
  if (/bind|port spec/i.test(complaint)) {
    for (const forward of forwards) {
      const found = await refused(forward);
      if (found !== undefined) return found;
    }
  }
  if (/namespace|sandbox|unshare|clone/i.test(complaint)) {
    return problem(
      `passt could not close itself in ("${complaint}"): this computer does not let ordinary users make user namespaces.`,
      'Allow it: "sudo sysctl kernel.unprivileged_userns_clone=1" on Debian, "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0" on Ubuntu. In a container, give it that right. Or choose a TAP interface, or no network.',
      'passt-namespaces',
    );
  }
  return problem(`passt ended at once (${how})${complaint === '' ? ' and did not say why' : `: ${complaint}`}.`, 'Choose a TAP interface or no network if it cannot be mended.', 'passt-failed');
}

/**
 * Frames that it answers as soon as it serves: an ARP probe (RFC 5227 §2.1.1) where it has IPv4, a neighbour solicitation (RFC 4861 §4.3) where it has
 * IPv6. They come from the guest's own address, which passt notes; answers that come late are for nobody.
 */
export function probeFrames(mac: Uint8Array): Uint8Array[] {
  const bytes = (...parts: (Uint8Array | readonly number[])[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));
  const zero = (count: number): number[] => Array.from({ length: count }, () => 0);
  const arp = bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff], mac, [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1], mac, zero(4), zero(6), [169, 254, 0, 1]);
  const own = [0xfe, 0x80, ...zero(6), mac[0]! ^ 0x02, mac[1]!, mac[2]!, 0xff, 0xfe, mac[3]!, mac[4]!, mac[5]!];
  const everybody = [0xff, 0x02, ...zero(13), 1];
  const solicitation = [135, 0, 0, 0, ...zero(4), 0xfe, 0x80, ...zero(13), 1, 1, 1, ...mac];
  const sum = checksum([...own, ...everybody, 0, 0, 0, solicitation.length, 0, 0, 0, 58, ...solicitation]);
  solicitation[2] = sum >> 8;
  solicitation[3] = sum & 0xff;
  const ndp = bytes([0x33, 0x33, 0, 0, 0, 1], mac, [0x86, 0xdd, 0x60, 0, 0, 0, 0, solicitation.length, 58, 255], own, everybody, solicitation);
  return [arp, ndp];
}

/** The Internet checksum (RFC 1071) of an even number of bytes. */
function checksum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

