// A host in a folder, for tests of the privileged helper: /sys, /proc, /dev and /run as far as the helper reads them. The helper's test
// build (native/lease/test) plays the kernel in it and notes every change in `log`.
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const sources = fileURLToPath(new URL('../../../../native/lease/', import.meta.url));
const FLAGS = [`-Wa,-I${sources}`, '-O1', '-g', '-std=gnu11', '-D_GNU_SOURCE', '-DVITRINE_TEST', '-Wall', '-Wextra', '-Werror'];

export interface FakeDisk {
  /** "nvme0n1", or below a subsystem with several paths. */
  name: string;
  number: string;
  partitions?: { name: string; number: string }[];
  multipath?: boolean;
}

export interface FakeDevice {
  address: string;
  /** None when the IOMMU is off. */
  group?: number;
  driver?: string;
  /** The driver that takes it by itself; default `driver`. */
  native?: string;
  override?: string;
  bridge?: boolean;
  /** Virtual functions that it has now, of `total`. */
  functions?: number;
  total?: number;
  /** The driver of its virtual functions. */
  functionDriver?: string;
  /** "8086:10d3"; default: of Intel's, and each other's. */
  ids?: string;
  /** "030000"; default: a network card. */
  classCode?: string;
  /** Network links: their names. */
  links?: string[];
  disks?: FakeDisk[];
  /** vfio-pci does not take it. */
  refused?: boolean;
}

export interface FakeHostPlan {
  devices: FakeDevice[];
  /** Made of others: device mapper, md. Each with the names of what it is made of. */
  stacked?: { name: string; number: string; of: string[] }[];
  mounts?: { number: string; at: string; source?: string; type?: string }[];
  swaps?: string[];
  /** Names of block devices in mounted btrfs file systems. */
  btrfs?: string[];
  /** Whether vfio-pci is loaded, can be, or is not there. */
  vfio?: 'loaded' | 'loadable' | 'missing';
  /** Bytes. */
  memory?: { total: number; available: number };
  boot?: string;
  /** What makes the initramfs; default update-initramfs. */
  initramfs?: string | null;
}

/** Compiles the helper's test build into `target`. */
export function compileHelper(target: string, { main = true, sanitize = 'undefined' }: { main?: boolean; sanitize?: string } = {}): void {
  const files = readdirSync(sources).filter((name) => name.endsWith('.c') && name !== 'effects.c' && (main || name !== 'main.c'));
  const words = [...FLAGS, '-o', target, join(sources, 'test/fake-effects.c'), ...(main ? [] : [join(sources, 'test/fuzz.c')]), ...files.map((name) => join(sources, name))];
  // The compiler's checks at run time, where its libraries for them are installed.
  const checked = spawnSync('cc', [`-fsanitize=${sanitize}`, '-fno-sanitize-recover', ...words], { encoding: 'utf8' });
  if (checked.status !== 0) execFileSync('cc', words, { stdio: ['ignore', 'ignore', 'inherit'] });
}

export const THIS_BOOT = '01234567-89ab-cdef-0123-456789abcdef';

export class FakeHost {
  readonly root: string;

  constructor(plan: FakeHostPlan, parent = tmpdir()) {
    this.root = mkdtempSync(join(parent, 'host-'));
    this.#build(plan);
  }

  path(...parts: string[]): string {
    return join(this.root, ...parts);
  }

  put(path: string, text: string | Uint8Array): void {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    writeFileSync(this.path(path), text);
  }

  #folder(path: string): void {
    mkdirSync(this.path(path), { recursive: true });
  }

  #link(path: string, target: string): void {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    symlinkSync(target, this.path(path));
  }

  #driver(name: string): void {
    if (existsSync(this.path('sys/bus/pci/drivers', name))) return;
    this.put(`sys/bus/pci/drivers/${name}/bind`, '');
    this.put(`sys/bus/pci/drivers/${name}/unbind`, '');
  }

  #block(name: string, number: string, place: string): void {
    const up = '../'.repeat(2);
    this.put(`sys/${place}/dev`, `${number}\n`);
    this.#folder(`sys/${place}/holders`);
    this.#link(`sys/class/block/${name}`, `${up}${place}`);
  }

  #disks(device: FakeDevice): void {
    for (const [index, disk] of (device.disks ?? []).entries()) {
      const controller = `devices/pci0000:00/${device.address}/nvme/nvme${index}`;
      let place = `${controller}/${disk.name}`;
      if (disk.multipath === true) {
        const subsystem = `devices/virtual/nvme-subsystem/nvme-subsys-${disk.name}`;
        place = `${subsystem}/${disk.name}`;
        this.#folder(`sys/${controller}`);
        this.#link(`sys/${subsystem}/nvme${index}`, `../../../pci0000:00/${device.address}/nvme/nvme${index}`);
      }
      this.#block(disk.name, disk.number, place);
      for (const partition of disk.partitions ?? []) this.#block(partition.name, partition.number, `${place}/${partition.name}`);
    }
  }

  #device(device: FakeDevice): void {
    const { address, group, driver, native = driver, override, bridge = false, functions, total, functionDriver, ids, classCode = '020000', refused = false } = device;
    const place = `sys/devices/pci0000:00/${address}`;
    const config = new Uint8Array(64);
    config[0x0e] = bridge ? 0x81 : 0x80;
    const [vendor, product] = (ids ?? `8086:${(0x1000 + Number.parseInt(address.slice(8, 10), 16)).toString(16)}`).split(':');
    this.put(`${place}/vendor`, `0x${vendor}\n`);
    this.put(`${place}/device`, `0x${product}\n`);
    this.put(`${place}/class`, `0x${bridge ? '060400' : classCode}\n`);
    for (const link of device.links ?? []) this.#folder(`${place}/net/${link}`);
    if (total !== undefined) this.put(`${place}/sriov_totalvfs`, `${total}\n`);
    if (functionDriver !== undefined) this.put(`${place}/vf_driver`, functionDriver);
    this.put(`${place}/config`, config);
    this.put(`${place}/driver_override`, override ?? '(null)\n');
    if (native !== undefined) this.put(`${place}/native`, native);
    if (functions !== undefined) this.put(`${place}/sriov_numvfs`, `${functions}\n`);
    if (refused) this.put(`${place}/refused`, '');
    this.#link(`sys/bus/pci/devices/${address}`, `../../../devices/pci0000:00/${address}`);
    if (group !== undefined) {
      this.#link(`${place}/iommu_group`, `../../../kernel/iommu_groups/${group}`);
      this.#link(`sys/kernel/iommu_groups/${group}/devices/${address}`, `../../../../devices/pci0000:00/${address}`);
    }
    if (native !== undefined) this.#driver(native);
    if (driver !== undefined) {
      this.#driver(driver);
      this.#link(`${place}/driver`, `../../../bus/pci/drivers/${driver}`);
      this.#link(`sys/bus/pci/drivers/${driver}/${address}`, `../../../../devices/pci0000:00/${address}`);
      if (driver === 'vfio-pci' && group !== undefined && !existsSync(this.path('dev/vfio', String(group)))) {
        this.put(`dev/vfio/${group}`, '');
        chmodSync(this.path('dev/vfio', String(group)), 0o400);
      }
    }
    this.#disks(device);
  }

  #build({ devices, stacked = [], mounts = [], swaps = [], btrfs = [], vfio = 'loaded', memory = { total: 16 * 2 ** 30, available: 12 * 2 ** 30 }, boot = THIS_BOOT, initramfs = 'update-initramfs' }: FakeHostPlan): void {
    for (const folder of ['sys/class/block', 'sys/bus/pci/drivers', 'sys/bus/pci/devices', 'proc/self', 'dev/vfio', 'run', 'busy', 'hang', 'modules']) this.#folder(folder);
    this.put('sys/bus/pci/drivers_probe', '');
    for (const folder of ['usr', 'usr/share', 'usr/share/polkit-1', 'usr/share/polkit-1/actions', 'etc', 'etc/modprobe.d', 'var', 'var/lib']) mkdirSync(this.path(folder), { mode: 0o755 });
    if (initramfs !== null) this.put(`usr/sbin/${initramfs}`, '');
    if (vfio === 'loaded') this.#driver('vfio-pci');
    if (vfio === 'loadable') this.put('modules/vfio-pci', '');
    for (const device of devices) this.#device(device);
    for (const { name, number, of } of stacked) {
      this.#block(name, number, `devices/virtual/block/${name}`);
      for (const lower of of) this.#link(`sys/class/block/${lower}/holders/${name}`, '../nowhere');
    }
    for (const name of btrfs) this.#link(`sys/fs/btrfs/11111111-2222-3333-4444-555555555555/devices/${name}`, '../nowhere');
    const lines = mounts.map(({ number, at, source = 'none', type = 'ext4' }, index) => `${20 + index} 1 ${number} / ${at.replaceAll(' ', '\\040')} rw,relatime shared:${index} - ${type} ${source} rw\n`);
    this.put('proc/self/mountinfo', `19 1 0:5 / /proc rw - proc proc rw\n${lines.join('')}`);
    this.put('proc/swaps', `Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n${swaps.map((name) => `/dev/${name}  partition\t1048572\t\t0\t\t-2\n`).join('')}`);
    this.put('proc/meminfo', `MemTotal:       ${memory.total / 1024} kB\nMemFree:        1 kB\nMemAvailable:   ${memory.available / 1024} kB\n`);
    this.put('proc/sys/kernel/random/boot_id', `${boot}\n`);
  }

  /** What /proc says of a process that really runs. */
  addProcess(pid: number, { uid, soft, hard, start = 4242, own = 0 }: { uid: number; soft: number; hard: number; start?: number; own?: number }): void {
    this.put(`proc/${pid}/stat`, `${pid} (a ) b) S 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 ${start} 1 1\n`);
    this.put(`proc/${pid}/status`, `Name:\ta\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nVmLck:\t       0 kB\n`);
    this.put(`proc/${pid}/limits`, `Limit                     Soft Limit           Hard Limit           Units     \nMax locked memory         ${soft}              ${hard}              bytes     \n`);
    this.put(`proc/${pid}/smaps_rollup`, `00400000-7ffe r--p 00000000 00:00 0 [rollup]\nRss: 1 kB\nPss_Anon:       ${own / 1024} kB\n`);
  }

  /** Every change of the host that was made, in order. */
  log(): string[] {
    return existsSync(this.path('log')) ? readFileSync(this.path('log'), 'utf8').split('\n').filter(Boolean) : [];
  }

  forgetLog(): void {
    rmSync(this.path('log'), { force: true });
  }

  driverOf(address: string): string {
    try {
      return readlinkSync(this.path('sys/bus/pci/devices', address, 'driver')).split('/').at(-1)!;
    } catch {
      return '';
    }
  }

  /** What the helper has written down in /var/lib/vitrine, a line each. */
  lasting(): string[] {
    return existsSync(this.path('var/lib/vitrine/state')) ? readFileSync(this.path('var/lib/vitrine/state'), 'utf8').split('\n').slice(1, -1) : [];
  }

  /** A file's text; null when it is not there. */
  text(path: string): string | null {
    return existsSync(this.path(path)) ? readFileSync(this.path(path), 'utf8') : null;
  }

  journals(): string[] {
    return existsSync(this.path('run/vitrine')) ? readdirSync(this.path('run/vitrine')).filter((name) => name.startsWith('lease.')) : [];
  }

  /** All of /sys and /dev: names, kinds, modes, contents, where links lead. */
  snapshot(): string {
    const lines: string[] = [];
    const walk = (path: string): void => {
      for (const name of readdirSync(this.path(path)).toSorted()) {
        const at = `${path}/${name}`;
        try {
          const found = lstatSync(this.path(at));
          if (found.isSymbolicLink()) lines.push(`${at} -> ${readlinkSync(this.path(at))}`);
          else if (found.isDirectory()) walk(at);
          else lines.push(`${at} ${(found.mode & 0o777).toString(8)} ${(found.mode & 0o400) === 0 ? '' : readFileSync(this.path(at), 'latin1').trim()}`);
        } catch (thrown) {
          // A guardian is at work. It is a part of the snapshot that something was on its way.
          if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown;
          lines.push(`${at} went while it was looked at`);
        }
      }
    };
    walk('sys');
    walk('dev');
    return lines.join('\n');
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true, maxRetries: 50, retryDelay: 20 }); // a guardian may be on its way out
  }
}
