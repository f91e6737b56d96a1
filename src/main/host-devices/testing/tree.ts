// Writes a host as a few lines of text say it, as folders and symbolic links like those of real sysfs and procfs, for tests.
//
//   cpu intel vmx             vendor and flags           kernel 6.8.0                    config INTEL_IOMMU=y …    (n for the rest)
//   cmdline quiet …           acpi DMAR APIC             iommu dmar0                     remapping yes|no          unsafe-interrupts
//   memory 32G 24G            total and available        memlock 8M|unlimited            lockdown integrity        modules vfio-pci
//   kvm no                    no /dev/kvm                forbidden PATH                  may not be used           desktop
//   file PATH TEXT            any other file             mount BLOCK|none POINT [TYPE [SOURCE]]                    swap BLOCK|FILE
//   volume dm-0 NAME on BLOCK…   route IF default|lan    upper br0 over IF…              program PID NAME PATH…
//   btrfs BLOCK…              one file system            region GROUP START END TYPE     iomem ADDRESS NAME
//   pci 00:01.0 8086:1901 060400 [group=1] [driver=x] [reset=flr,pm|none] [boot_vga] [rom=512K|shadow] [bar=0:16M:64p] [label="…"]
//       [sriov=TOTAL/ENABLED] [physfn=ADDRESS] [sleeps] [msix=BAR:OFFSET:VECTORS] [acs|noacs] [numa=1] [override=x] [subsystem=v:d] [serial=x]
//     below it, deeper: pci … of the bus behind it, and
//     net NAME up|down [ADDRESS]    block NAME [PARTITION…]    drm card0 HDMI-A-1:on DP-1:off    sound card0 [playing]
//     usb 1-1 keyboard|mouse|hub|device "NAME"    usb 1-2 disk sdb [sdb1…]
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import type { HostRoots } from '../roots.ts';
import { treeRoots } from '../roots.ts';

const UNITS: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

function amount(text: string): number {
  const match = /^(\d+)([KMGT]?)$/.exec(text);
  if (match === null) throw new Error(`"${text}" is no size`);
  return Number(match[1]) * UNITS[match[2]];
}

function words(line: string): string[] {
  return (line.match(/(?:[^\s"]|"[^"]*")+/g) ?? []).map((word) => word.replaceAll('"', ''));
}

function address(short: string): string {
  return short.length < 12 ? `0000:${short}` : short;
}

/** A configuration space with the header and, on request, an MSI-X or an ACS capability. */
function configSpace(vendor: string, device: string, bridge: boolean, msix: string | undefined, acs: boolean | undefined): Buffer {
  const config = Buffer.alloc(acs === undefined ? 256 : 4096);
  config.writeUInt16LE(Number.parseInt(vendor, 16), 0);
  config.writeUInt16LE(Number.parseInt(device, 16), 2);
  config[0x0e] = bridge ? 1 : 0;
  if (msix !== undefined) {
    const [bar, offset, vectors] = msix.split(':').map(Number);
    config[0x06] = 0x10;
    config[0x34] = 0x50;
    config[0x50] = 0x11;
    config.writeUInt16LE(vectors - 1, 0x52);
    config.writeUInt32LE(offset | bar, 0x54);
    config.writeUInt32LE((offset + 0x800) | bar, 0x58);
  }
  if (acs !== undefined) {
    config.writeUInt32LE(acs ? 0x0001000d : 0x00010001, 0x100);
    config.writeUInt16LE(0x1d, 0x106);
  }
  return config;
}

export interface WrittenHost {
  folder: string;
  roots: HostRoots;
  /** The folder of a device in the tree. */
  device: (short: string) => string;
  write: (path: string, content: string) => void;
  remove: () => void;
}

class Writer {
  readonly folder = mkdtempSync(join(tmpdir(), 'vitrine-host-'));
  readonly forbidden = new Set<string>();
  readonly paths = new Map<string, string>();
  readonly addresses = new Map<string, string[]>();
  readonly blocks = new Map<string, string>();
  readonly config: string[] = [];
  desktop = false;
  #minor = 0;
  #mounts = 0;
  #input = 0;

  write(path: string, content: string | Buffer): void {
    const full = join(this.folder, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, typeof content === 'string' ? `${content}\n` : content);
  }

  append(path: string, line: string): void {
    const full = join(this.folder, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, `${line}\n`, { flag: 'a' });
  }

  dir(path: string): void {
    mkdirSync(join(this.folder, path), { recursive: true });
  }

  /** A link at `path` that leads to `target`, written relatively as sysfs does. */
  link(path: string, target: string): void {
    this.dir(dirname(path));
    symlinkSync(relative(dirname(path), target), join(this.folder, path));
  }

  /** A device of a class, with a node in /dev if it has one. */
  classDevice(className: string, path: string, node?: { kind: 'char' | 'block'; name: string }): void {
    this.dir(path);
    this.link(join('sys/class', className, basename(path)), path);
    if (node === undefined) return;
    const number = `${node.kind === 'block' ? 259 : 226}:${this.#minor++}`;
    this.write(join(path, 'dev'), number);
    this.write(join(path, 'uevent'), `DEVNAME=${node.name}`);
    this.link(join('sys/dev', node.kind, number), path);
    this.write(join('dev', node.name), '');
    if (node.kind === 'block') this.blocks.set(basename(path), number);
  }

  block(parent: string, name: string, partitions: readonly string[]): void {
    const disk = join(parent, name);
    this.classDevice('block', disk, { kind: 'block', name });
    this.dir(join(disk, 'holders'));
    this.dir(join(disk, 'slaves'));
    for (const [index, partition] of partitions.entries()) {
      const path = join(disk, partition);
      this.classDevice('block', path, { kind: 'block', name: partition });
      this.write(join(path, 'partition'), String(index + 1));
      this.dir(join(path, 'holders'));
    }
  }

  volume(name: string, title: string, below: readonly string[]): void {
    const path = join('sys/devices/virtual/block', name);
    this.classDevice('block', path, { kind: 'block', name });
    this.write(join(path, 'dm/name'), title);
    this.dir(join(path, 'holders'));
    this.link(join('dev/mapper', title), join('dev', name));
    for (const each of below) {
      const real = join('sys/class/block', each);
      this.link(join(path, 'slaves', each), real);
      this.dir(join(real, 'holders'));
      symlinkSync(join('/', 'nowhere', name), join(this.folder, real, 'holders', name));
    }
  }

  mount(block: string, point: string, type = 'ext4', source = `/dev/${block}`): void {
    const number = type === 'btrfs' || type === 'zfs' ? `0:${30 + this.#mounts}` : (this.blocks.get(block) ?? `0:${30 + this.#mounts}`);
    this.append('proc/self/mountinfo', `${20 + this.#mounts++} 1 ${number} / ${point.replaceAll(' ', '\\040')} rw,relatime shared:1 - ${type} ${source} rw`);
  }

  usb(parent: string, port: string, what: string, rest: readonly string[]): void {
    const bus = join(parent, `usb${port.split('-')[0]}`);
    const path = join(bus, port);
    this.write(join(path, 'bDeviceClass'), what === 'hub' ? '09' : '00');
    this.write(join(path, 'product'), what === 'disk' ? 'USB stick' : (rest[0] ?? what));
    this.link(join('sys/bus/usb/devices', port), path);
    if (what === 'disk') this.block(join(path, `${port}:1.0/host6/target6:0:0/6:0:0:0/block`), rest[0], rest.slice(1));
    if (what !== 'keyboard' && what !== 'mouse') return;
    const input = join(path, `${port}:1.0/0003:046D:C31C.0001/input/input${this.#input}`);
    this.classDevice('input', input);
    this.write(join(input, 'name'), rest[0] ?? what);
    // As a Logitech keyboard and a mouse have them.
    this.write(join(input, 'capabilities/key'), what === 'keyboard' ? '1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe' : 'ffff0000 0 0 0 0');
    this.classDevice('input', join(input, `event${this.#input++}`), { kind: 'char', name: `input/event${this.#input}` });
  }

  pci(parent: string, tokens: readonly string[]): string {
    const at = address(tokens[0]);
    const [vendor, device] = tokens[1].split(':');
    const classCode = tokens[2];
    const options = new Map(tokens.slice(3).map((token) => [token.split('=')[0], token.includes('=') ? token.slice(token.indexOf('=') + 1) : '']));
    const path = join(parent === '' ? `sys/devices/pci${at.slice(0, 7)}` : parent, at);
    this.paths.set(at, path);
    const file = (name: string, content: string | Buffer) => this.write(join(path, name), content);
    file('vendor', `0x${vendor}`);
    file('device', `0x${device}`);
    file('class', `0x${classCode}`);
    file('revision', '0x01');
    const [subVendor, subDevice] = (options.get('subsystem') ?? '0000:0000').split(':');
    file('subsystem_vendor', `0x${subVendor}`);
    file('subsystem_device', `0x${subDevice}`);
    file('numa_node', options.get('numa') ?? '-1');
    file('driver_override', options.get('override') ?? '(null)');
    file('power_state', options.has('sleeps') ? 'D3cold' : 'D0');
    file('power/runtime_status', options.has('sleeps') ? 'suspended' : 'active');
    file('config', configSpace(vendor, device, classCode.startsWith('0604'), options.get('msix'), options.has('acs') ? true : options.has('noacs') ? false : undefined));
    const reset = options.get('reset') ?? (classCode.startsWith('06') ? 'none' : 'flr');
    if (reset !== 'none') {
      file('reset', '');
      file('reset_method', reset.replaceAll(',', ' '));
    }
    const resources = Array.from({ length: 7 }, () => '0x0000000000000000 0x0000000000000000 0x0000000000000000');
    const resource = (index: number, start: bigint, bytes: number, flags: number) => {
      const word = (value: bigint) => `0x${value.toString(16).padStart(16, '0')}`;
      resources[index] = `${word(start)} ${word(start + BigInt(bytes) - 1n)} ${word(BigInt(flags))}`;
    };
    for (const bar of (options.get('bar') ?? '').split(',').filter(Boolean)) {
      const [index, bytes, kind = '32'] = bar.split(':');
      resource(Number(index), kind.startsWith('64') ? 0x4000000000n : 0xe0000000n, amount(bytes), kind === 'io' ? 0x40101 : 0x40200 | (kind.startsWith('64') ? 0x100000 : 0) | (kind.endsWith('p') ? 0x2000 : 0));
    }
    const rom = options.get('rom');
    if (rom !== undefined) {
      file('rom', '');
      resource(6, 0xc0000n, rom === 'shadow' ? 0x20000 : amount(rom), rom === 'shadow' ? 0x212 : 0x46200);
    }
    file('resource', resources.join('\n'));
    if (classCode.startsWith('03')) file('boot_vga', options.has('boot_vga') ? '1' : '0');
    if (options.has('serial')) file('serial_number', options.get('serial')!);
    if (options.has('label')) file('label', options.get('label')!);
    if (options.has('sriov')) {
      const [total, enabled] = options.get('sriov')!.split('/');
      file('sriov_totalvfs', total);
      file('sriov_numvfs', enabled);
    }
    if (options.has('physfn')) {
      const physical = this.paths.get(address(options.get('physfn')!))!;
      this.link(join(path, 'physfn'), physical);
      let index = 0;
      while (this.paths.has(`${physical} virtfn${index}`)) index++;
      this.paths.set(`${physical} virtfn${index}`, at);
      this.link(join(physical, `virtfn${index}`), path);
    }
    this.link(join('sys/bus/pci/devices', at), path);
    this.link(join(path, 'subsystem'), 'sys/bus/pci');
    const driver = options.get('driver');
    if (driver !== undefined) {
      this.dir(join('sys/bus/pci/drivers', driver));
      this.link(join(path, 'driver'), join('sys/bus/pci/drivers', driver));
      this.link(join('sys/bus/pci/drivers', driver, at), path);
    }
    const group = options.get('group');
    if (group !== undefined) {
      this.link(join(path, 'iommu_group'), join('sys/kernel/iommu_groups', group));
      this.link(join('sys/kernel/iommu_groups', group, 'devices', at), path);
      if (driver === 'vfio-pci' && !this.paths.has(`vfio/${group}`)) {
        this.write(join('dev/vfio', group), '');
        this.paths.set(`vfio/${group}`, '');
      }
    }
    return path;
  }

  thing(parent: string, [what, name, ...rest]: readonly string[]): void {
    if (what === 'net') {
      const path = join(parent, 'net', name);
      this.classDevice('net', path);
      this.write(join(path, 'operstate'), rest[0]);
      this.write(join(path, 'flags'), '0x1003');
      this.addresses.set(name, rest.slice(1));
    } else if (what === 'block') {
      if (name.startsWith('nvme')) this.write(join(parent, 'nvme', name.replace(/n\d+$/, ''), 'model'), `Drive ${name.replace(/n\d+$/, '')}   `);
      this.block(name.startsWith('nvme') ? join(parent, 'nvme', name.replace(/n\d+$/, '')) : join(parent, 'ata1/host0/target0:0:0/0:0:0:0/block'), name, rest);
    } else if (what === 'drm') {
      this.classDevice('drm', join(parent, 'drm', name), { kind: 'char', name: `dri/${name}` });
      for (const connector of rest) {
        const [port, state] = connector.split(':');
        const path = join(parent, 'drm', name, `${name}-${port}`);
        this.classDevice('drm', path);
        this.write(join(path, 'status'), state === 'on' ? 'connected' : 'disconnected');
        this.write(join(path, 'enabled'), state === 'on' ? 'enabled' : 'disabled');
      }
    } else if (what === 'sound') {
      this.classDevice('sound', join(parent, 'sound', name));
      this.write(join('proc/asound', name, 'pcm0p/sub0/status'), rest.includes('playing') ? 'state: RUNNING' : 'closed');
    } else if (what === 'usb') this.usb(parent, name, rest[0], rest.slice(1));
    else throw new Error(`what is ${what}?`);
  }

  top([what, ...rest]: readonly string[]): void {
    const [first = '', second = ''] = rest;
    switch (what) {
      case 'cpu':
        this.write('proc/cpuinfo', first === 'arm' ? 'CPU implementer\t: 0x41' : `vendor_id\t: ${{ intel: 'GenuineIntel', amd: 'AuthenticAMD' }[first] ?? first}\nflags\t\t: fpu ${rest.slice(1).join(' ')}`);
        break;
      case 'kernel': this.write('proc/sys/kernel/osrelease', first); break;
      case 'config': this.config.push(...rest); break;
      case 'cmdline': this.write('proc/cmdline', rest.join(' ')); break;
      case 'acpi': for (const table of rest) this.write(join('sys/firmware/acpi/tables', table), ''); break;
      case 'iommu': for (const unit of rest) this.dir(join('sys/class/iommu', unit)); break;
      case 'remapping': this.write('proc/interrupts', `           CPU0\n   9:  0  ${first === 'yes' ? 'IR-IO-APIC' : 'IO-APIC'}    9-fasteoi   acpi\n 120:  5  ${first === 'yes' ? 'IR-PCI-MSI' : 'PCI-MSI'} 524288-edge  nvme0q0`); break;
      case 'unsafe-interrupts': this.write('sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts', 'Y'); break;
      case 'memory': this.write('proc/meminfo', `MemTotal:       ${amount(first) / 1024} kB\nMemAvailable:   ${amount(second) / 1024} kB`); break;
      case 'memlock': this.write('proc/self/limits', `Limit                     Soft Limit           Hard Limit           Units\nMax locked memory         ${first === 'unlimited' ? first : amount(first)}              unlimited            bytes`); break;
      case 'lockdown': this.write('sys/kernel/security/lockdown', ['none', 'integrity', 'confidentiality'].map((mode) => (mode === first ? `[${mode}]` : mode)).join(' ')); break;
      case 'modules': this.write('lib/modules/6.8.0/modules.dep', rest.map((name) => `kernel/drivers/vfio/pci/${name}.ko.zst:`).join('\n')); break;
      case 'kvm': if (first === 'no') rmSync(join(this.folder, 'dev/kvm')); break;
      case 'forbidden': this.forbidden.add(first); break;
      case 'desktop': this.desktop = true; break;
      case 'file': this.append(first, rest.slice(1).join(' ')); break;
      case 'mount': this.mount(first, second, rest[2], rest[3]); break;
      case 'swap':
        if (first.startsWith('/')) this.append('proc/swaps', `${first} file 2097148 0 -2`);
        else this.append('proc/swaps', `/dev/${first} partition 2097148 0 -2`);
        break;
      case 'volume': this.volume(first, second, rest.slice(3)); break;
      case 'btrfs': for (const name of rest) this.link(join('sys/fs/btrfs/2f1c/devices', name), join('sys/class/block', name)); break;
      case 'route': this.append('proc/net/route', `${first}\t${second === 'default' ? '00000000\t0101A8C0\t0003' : '0001A8C0\t00000000\t0001'}\t0\t0\t100\t00FFFFFF\t0\t0\t0`); break;
      case 'upper': {
        const path = join('sys/devices/virtual/net', first);
        this.classDevice('net', path);
        this.write(join(path, 'operstate'), 'up');
        for (const lower of rest.slice(2)) this.link(join('sys/class/net', lower, `upper_${first}`), path);
        break;
      }
      case 'region': this.append(join('sys/kernel/iommu_groups', first, 'reserved_regions'), rest.slice(1).join(' ')); break;
      case 'iomem': this.append('proc/iomem', `00000000-00000000 : PCI Bus 0000:00\n  00000000-00000000 : ${address(first)}\n    00000000-00000000 : ${second}`); break;
      case 'program':
        this.write(join('proc', first, 'comm'), second);
        this.dir(join('proc', first, 'fd'));
        for (const [fd, path] of rest.slice(2).entries()) symlinkSync(path, join(this.folder, 'proc', first, 'fd', String(fd)));
        break;
      default: throw new Error(`what is ${what}?`);
    }
  }
}

/** What a host has that the text does not speak of. */
const USUAL = `
  cpu intel vmx
  kernel 6.8.0
  cmdline quiet
  memory 32G 24G
  memlock unlimited
  modules vfio-pci
`;

/** Writes the host into a folder of its own under the temporary directory. */
export function writeHost(text: string, pciIds: string): WrittenHost {
  const writer = new Writer();
  writer.write('dev/kvm', '');
  writer.write('proc/swaps', 'Filename Type Size Used Priority');
  writer.write('proc/net/route', 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT');
  writer.write('pci.ids', pciIds);
  for (const line of USUAL.split('\n')) if (line.trim() !== '') writer.top(words(line));
  const stack: { indent: number; path: string }[] = [];
  const later: string[][] = [];
  for (const line of text.split('\n')) {
    const tokens = words(line);
    if (tokens.length === 0 || line.trim().startsWith('#')) continue;
    const indent = line.length - line.trimStart().length;
    while (stack.length > 0 && stack.at(-1)!.indent >= indent) stack.pop();
    const parent = stack.at(-1)?.path;
    if (tokens[0] === 'pci') stack.push({ indent, path: writer.pci(parent ?? '', tokens.slice(1)) });
    else if (parent !== undefined) writer.thing(parent, tokens);
    // What lies on devices comes once these are there.
    else later.push(tokens);
  }
  for (const tokens of later) writer.top(tokens);
  if (writer.config.length > 0) writer.write('boot/config-6.8.0', writer.config.map((word) => (word.endsWith('=n') ? `# CONFIG_${word.slice(0, -2)} is not set` : `CONFIG_${word}`)).join('\n'));
  const at = (path: string) => join(writer.folder, path);
  for (const path of writer.forbidden) if (existsSync(at(path))) chmodSync(at(path), 0o400);
  writer.write('host.json', JSON.stringify({ home: '/home/ada', desktop: writer.desktop, forbidden: [...writer.forbidden], addresses: Object.fromEntries(writer.addresses) }));
  return {
    folder: writer.folder,
    roots: treeRoots(writer.folder),
    device: (short) => at(writer.paths.get(address(short))!),
    write: (path, content) => writer.write(path, content),
    remove: () => rmSync(writer.folder, { recursive: true, force: true }),
  };
}
