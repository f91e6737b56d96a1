// The "Try Linux" machine: build/try-linux/vmlinuz and initrd.gz, from the distribution's kernel, a static busybox and guests/try-linux.
// The kernel is the lab's where that is prepared, else the newest that apt knows (downloaded and unpacked, never installed), else the
// host's own. Needs no root. What cannot be had is said, and the machine is left out: it is no reason not to start.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { release as runningRelease } from 'node:os';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Cpio } from './cpio.mjs';
import { labPaths } from './lab.mjs';
import { SetupError, buildFolder, cacheFolder, filesBelow, findCommand, hashOf, isFresh, root, step, tryRun, writeStamp } from './run.mjs';
import { unpackPackages } from './unpack.mjs';

const source = join(root, 'guests/try-linux/rootfs');
const target = join(buildFolder, 'try-linux');

/** Modules that the initrd loads, where the kernel has them as modules: power button, its event device, PS/2 mouse. */
const modules = ['button', 'evdev', 'psmouse'];
/** Drivers, loaded where the device is: of what it may be given of the computer (common network adapters, NVMe), and of virtio devices, each with what makes it of use. */
const drivers = [
  ['e1000e'], ['igb'], ['r8169'], ['nvme'], ['virtio_pci'],
  ['virtio_blk', 'crc32c_generic', 'ext4', 'isofs'], ['virtio_scsi', 'sd_mod', 'sr_mod', 'crc32c_generic', 'ext4', 'isofs'], ['virtio_net', 'af_packet'], ['9pnet_virtio', '9p'], ['virtio_console'], ['virtio_rng'],
  ['virtio_balloon'], ['virtio_input'], ['vmw_vsock_virtio_transport'],
];

/** Packages that stand for the newest kernel: Debian's, then Ubuntu's. */
const kernelPackages = ['linux-image-amd64', 'linux-image-generic'];

/** What to call the result, for a machine that is offered only when it is there. */
export const tryLinux = { kernel: join(target, 'vmlinuz'), initrd: join(target, 'initrd.gz') };

export async function prepareTryLinux() {
  const hash = hashOf([...filesBelow(source), join(root, 'scripts/setup/try-linux.mjs'), join(root, 'scripts/setup/cpio.mjs')]);
  const stamp = join(target, 'stamp');
  if (isFresh(stamp, hash, [tryLinux.kernel, tryLinux.initrd])) return;
  await step('Preparing the machine "Try Linux"', async () => {
    const kernel = await findKernel();
    const busybox = await findBusybox();
    mkdirSync(target, { recursive: true });
    writeFileSync(`${tryLinux.initrd}.new`, makeInitrd(kernel, busybox));
    copyFileSync(kernel.image, `${tryLinux.kernel}.new`);
    chmodSync(`${tryLinux.kernel}.new`, 0o644);
    for (const path of Object.values(tryLinux)) renameSync(`${path}.new`, path);
  });
  writeStamp(stamp, hash);
}

/** The kernel to use: { image, modules }, paths of the bzImage and of a folder with its modules. */
async function findKernel() {
  const own = labPaths().kernels['6.1'];
  if (own) return { image: own.bzImage, modules: own.modules };
  const kept = join(cacheFolder(), 'kernel');
  if (!existsSync(kept)) {
    const names = kernelPackageNames();
    if (names.length > 0) await unpackPackages(names, kept);
  }
  const folder = existsSync(kept) ? kept : '';
  const images = existsSync(`${folder}/boot`) ? readdirSync(`${folder}/boot`).filter((name) => name.startsWith('vmlinuz-')) : [];
  const wanted = folder === '' ? `vmlinuz-${runningRelease()}` : images[0];
  const release = wanted?.replace('vmlinuz-', '');
  const found = [`${folder}/boot/${wanted}`, `${folder}/usr/lib/modules/${release}/vmlinuz`].find((path) => readable(path));
  const tree = [`${folder}/lib/modules/${release}`, `${folder}/usr/lib/modules/${release}`].find((path) => existsSync(path));
  if (!found) throw new SetupError('No Linux kernel was found for "Try Linux": apt offers none, and the host\'s own in /boot cannot be read.');
  return { image: found, modules: tree };
}

function readable(path) {
  try {
    return statSync(path).isFile() && readFileSync(path).length > 0;
  } catch {
    return false;
  }
}

/** The packages with the newest kernel's image and modules, by what the distribution's own "newest kernel" depends on. */
function kernelPackageNames() {
  if (!findCommand('apt-cache')) return [];
  for (const name of kernelPackages) {
    const { stdout } = tryRun('apt-cache', ['depends', name]);
    const image = /Depends: (linux-image-(?:unsigned-)?\d\S+)/.exec(stdout)?.[1];
    if (!image) continue;
    const withModules = image.replace(/^linux-image-(unsigned-)?/, 'linux-modules-');
    return [image, ...(tryRun('apt-cache', ['show', '--no-all-versions', withModules]).status === 0 ? [withModules] : [])];
  }
  return [];
}

/** A busybox that needs no library: the host's, else the one of Debian's package, unpacked. */
async function findBusybox() {
  const isStatic = (path) => path && existsSync(path) && !readFileSync(path).includes('/ld-linux');
  const own = findCommand('busybox');
  if (isStatic(own)) return own;
  const kept = join(cacheFolder(), 'busybox');
  if (!existsSync(kept) && findCommand('apt-get')) await unpackPackages(['busybox-static'], kept);
  const found = ['bin/busybox', 'usr/bin/busybox'].map((path) => join(kept, path)).find((path) => isStatic(path));
  if (!found) throw new SetupError('"Try Linux" needs a static busybox. On Debian and Ubuntu: apt-get install busybox-static; Fedora: dnf install busybox; Arch: pacman -S busybox');
  return found;
}

function makeInitrd(kernel, busybox) {
  const archive = new Cpio();
  for (const path of ['bin', 'dev', 'etc', 'etc/acpi', 'etc/acpi/PWRF', 'lib', 'lib/modules', 'proc', 'root', 'run', 'sys', 'tmp']) archive.folder(path, path === 'tmp' ? 0o1777 : 0o755);
  archive.device('dev/console', 5, 1);
  archive.device('dev/null', 1, 3, 0o666);
  archive.file('bin/busybox', readFileSync(busybox), 0o755);
  // What /init uses before `busybox --install` has made the rest.
  for (const name of ['sh', 'mount', 'mkdir', 'cat', 'insmod', 'hostname', 'ip']) archive.link(`bin/${name}`, 'busybox');
  for (const path of filesBelow(source)) archive.file(path.slice(source.length + 1), readFileSync(path), statSync(path).mode & 0o111 ? 0o755 : 0o644);
  const order = [];
  for (const name of modules) addModule(kernel.modules, name, archive, order);
  archive.file('lib/modules/order', `${order.join('\n')}\n`);
  archive.file('lib/modules/aliases', drivers.map(([name, ...more]) => aliasesOf(kernel.modules, name, more, archive)).join(''));
  return gzipSync(archive.end(), { level: 9 });
}

/** Adds a driver with what it needs, and more modules; lines "PATTERN FILE…" of the PCI and virtio devices that it is for (modinfo's aliases). */
function aliasesOf(folder, name, more, archive) {
  const files = [];
  const content = addModule(folder, name, archive, files);
  for (const each of more) addModule(folder, each, archive, files);
  const aliases = content === undefined ? [] : [...content.toString('latin1').matchAll(/\0alias=((?:pci|virtio):[^\0]*)(?=\0)/g)];
  return aliases.map(([, pattern]) => `${pattern} ${files.join(' ')}\n`).join('');
}

/** Adds a module after the modules that it names in its "depends" line; one that is not there is built in, or not to be had. */
function addModule(folder, name, archive, order) {
  if (folder === undefined || order.includes(`${name}.ko`)) return undefined;
  const pattern = new RegExp(`^${name.replaceAll('_', '[-_]')}\\.ko(\\.(xz|zst|gz))?$`);
  const file = filesBelow(join(folder, 'kernel')).find((path) => pattern.test(basename(path)));
  if (!file) return undefined;
  const content = unpackedModule(file);
  const depends = /\0depends=([^\0]*)\0/.exec(content.toString('latin1'))?.[1] ?? '';
  for (const needed of depends.split(',').filter(Boolean)) addModule(folder, needed, archive, order);
  archive.file(`lib/modules/${name}.ko`, content);
  order.push(`${name}.ko`);
  return content;
}

function unpackedModule(file) {
  const command = { xz: 'xz', zst: 'zstd', gz: 'gzip' }[file.split('.').at(-1)];
  if (!command) return readFileSync(file);
  const { status, stdout, stderr } = tryRun(command, ['-dcq', file], { encoding: 'buffer' });
  if (status !== 0) throw new SetupError(`${file} cannot be unpacked with ${command}: ${String(stderr)}`);
  return stdout;
}
