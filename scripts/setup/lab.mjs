// What the lab needs on disk: QEMU and a few tools from the distribution, Debian's kernels for its host, and an initramfs.
//
// The lab (lab/README.md) is QEMU's software emulation of a PC with AMD SVM, in which a Linux host boots. This module finds or
// installs the tools, downloads the kernel packages, unpacks them, takes the ELF image out of each bzImage (an ELF boots by PVH,
// with no decompression, which costs a second under emulation), and builds the initramfs. It needs nothing but Node 20, so it runs
// before `npm ci`. Everything is cached and renamed into place whole, so two set-ups may run at once:
//
//   ${XDG_CACHE_HOME:-~/.cache}/vitrine/lab/             ($VITRINE_LAB_CACHE names another folder, which may be read-only when full)
//     6.1.release, 6.12.release, 6.1-cloud.release        which release stands for each name
//     kernels/RELEASE/boot/{vmlinuz,config}-RELEASE, kernels/RELEASE/vmlinux, kernels/RELEASE/lib/modules/RELEASE/
//     initramfs/RELEASE-HASH.cpio                        HASH covers the module list and the scripts inside (lab-init.mjs)
//
// On a distribution without Debian's packages the host's own kernel (/boot, /lib/modules) takes their place.

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { INIT_SCRIPT, STAGE2_SCRIPT } from './lab-init.mjs'

/** Debian packages, and a program of each by which it is recognised. */
const PACKAGES = [
  ['qemu-system-x86', 'qemu-system-x86_64'],
  ['busybox-static', 'busybox'],
  ['kmod', 'modprobe'],
  ['pciutils', 'lspci'],
  ['cpio', 'cpio'],
  ['xz-utils', 'xz'],
  ['zstd', 'zstd']
]

/** The same packages as other distributions call them, for the message where apt is missing. */
const OTHER_DISTRIBUTIONS = [
  ['dnf', 'dnf install qemu-system-x86-core busybox kmod pciutils cpio xz zstd'],
  ['pacman', 'pacman -S qemu-system-x86 busybox kmod pciutils cpio xz zstd'],
  ['zypper', 'zypper install qemu-x86 busybox-static kmod pciutils cpio xz zstd']
]

/** Modules that the initramfs carries, in two lists that are loaded side by side; all others come from the root later. */
const INITRAMFS_MODULES = {
  root: ['virtio_pci', 'virtio_net', '9pnet_virtio', '9p', 'overlay'],
  kvm: ['kvm', 'kvm_amd']
}

/** Kernel flavours by the name the lab uses for them: how the package is called, and the pattern of the host's own that can stand in. */
const FLAVOURS = {
  '6.1': { pattern: /^linux-image-6\.1\.0-(\d+)-amd64$/ },
  '6.12': { pattern: /^linux-image-6\.12\.(\d+)\+deb12-amd64$/ },
  '6.1-cloud': { pattern: /^linux-image-6\.1\.0-(\d+)-cloud-amd64$/ }
}

/** Folders in which system programs lie that an ordinary user's PATH does not name. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/sbin', '/usr/local/sbin', '/usr/bin', '/bin']

/** The lab's cache folder. */
export function labCache() {
  if (process.env.VITRINE_LAB_CACHE) return process.env.VITRINE_LAB_CACHE
  const cache = process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache')
  return path.join(cache, 'vitrine', 'lab')
}

/** Full path of program `name`, or undefined. */
export function findProgram(name) {
  const folders = [...(process.env.PATH ?? '').split(':').filter(Boolean), ...SYSTEM_FOLDERS]
  for (const folder of folders) {
    const file = path.join(folder, name)
    try {
      fs.accessSync(file, fs.constants.X_OK)
      return file
    } catch {
      // the next folder
    }
  }
  return undefined
}

/**
 * Where the prepared pieces lie, from the cache's index; kernels that are not prepared are absent.
 * `bzImage` is Debian's own vmlinuz, `vmlinux` the ELF in it, `config` its configuration, `modules` its lib/modules/RELEASE folder,
 * `initramfs` the lab's (absent for '6.1-cloud', which is a guest kernel only).
 */
export function labPaths(cache = labCache()) {
  const index = readIndex(cache)
  const kernels = {}
  for (const [name, release] of Object.entries(index)) {
    const paths = kernelPaths(cache, release)
    if (!fs.existsSync(paths.bzImage) || !fs.existsSync(paths.vmlinux)) continue
    const initramfs = initramfsPath(cache, release)
    kernels[name] = { ...paths, ...(fs.existsSync(initramfs) ? { initramfs } : {}) }
  }
  return { cache, qemu: findProgram('qemu-system-x86_64'), busybox: findProgram('busybox'), kernels }
}

/**
 * Brings everything the lab needs, and says by `log(line)` what takes time. Idempotent; a prepared cache costs milliseconds.
 * @param options.log       called with one line of words for each step over about a second
 * @param options.kernels   the lab kernels wanted; default both
 * @param options.guest     also the cloud kernel that the "Try Linux" machine and the tests' guests boot; default true
 * @param options.install   false: never run apt-get install, throw instead
 * @throws Error whose message names the command that the user must run
 */
export async function prepareLab({ log = () => {}, kernels = ['6.1', '6.12'], guest = true, install = true, cache = labCache() } = {}) {
  for (const name of kernels) {
    if (!Object.hasOwn(FLAVOURS, name)) throw new Error(`The lab has no kernel "${name}": it knows ${Object.keys(FLAVOURS).join(', ')}.`)
  }
  await prepareTools({ log, install })
  const wanted = guest && !kernels.includes('6.1-cloud') ? [...kernels, '6.1-cloud'] : kernels
  for (const name of wanted) {
    const release = await prepareKernel({ name, log, cache })
    if (name !== '6.1-cloud') await prepareInitramfs({ release, log, cache })
  }
  return labPaths(cache)
}

/** Installs the packages that are missing, or says how. */
async function prepareTools({ log, install }) {
  const missing = PACKAGES.filter(([, program]) => findProgram(program) === undefined).map(([name]) => name)
  const busybox = findProgram('busybox')
  if (busybox !== undefined && isDynamic(busybox)) missing.push('busybox-static')
  if (missing.length === 0) return
  const apt = findProgram('apt-get')
  if (apt === undefined) {
    const other = OTHER_DISTRIBUTIONS.find(([manager]) => findProgram(manager) !== undefined)
    throw new Error(
      `The lab needs programs that are missing here (Debian calls their packages ${missing.join(', ')}). Install them with: ` +
        (other === undefined ? 'your package manager' : `sudo ${other[1]}`)
    )
  }
  const command = `apt-get install -y ${missing.join(' ')}`
  if (!install || process.getuid() !== 0) throw new Error(`The lab needs packages that are not installed. Install them with: sudo ${command}`)
  log(`Installing ${missing.join(', ')} with apt-get`)
  const args = ['-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=600', 'install', ...missing]
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const first = await run(apt, args, { env, mayFail: true })
  if (first.code === 0) return
  log('Fetching the lists of packages with apt-get update')
  await run(apt, ['-q', 'update'], { env, mayFail: true })
  await run(apt, args, { env, attempt: `installing the lab's packages (${command})` })
}

/** True if an ELF program asks for a dynamic loader (PT_INTERP), which the initramfs does not have. */
function isDynamic(file) {
  const elf = fs.readFileSync(file)
  const PT_INTERP = 3
  const offset = Number(elf.readBigUInt64LE(32))
  const size = elf.readUInt16LE(54)
  for (let i = 0; i < elf.readUInt16LE(56); i++) if (elf.readUInt32LE(offset + i * size) === PT_INTERP) return true
  return false
}

/** Prepares one kernel and gives its release. */
async function prepareKernel({ name, log, cache }) {
  const known = readIndex(cache)[name]
  if (known !== undefined && fs.existsSync(kernelPaths(cache, known).vmlinux)) return known
  fs.mkdirSync(path.join(cache, 'kernels'), { recursive: true })
  const found = await newestPackage(name, log)
  const release = found === undefined ? hostRelease() : found.replace('linux-image-', '')
  const target = path.join(cache, 'kernels', release)
  if (!fs.existsSync(target)) {
    const work = fs.mkdtempSync(path.join(cache, 'kernels', '.new-'))
    try {
      if (found === undefined) {
        log(`Taking this host's own kernel ${release} for the lab's "${name}": Debian's package is not to be had here`)
        copyHostKernel(release, work)
      } else {
        log(`Downloading ${found} for the lab`)
        await downloadKernel(found, work)
      }
      log(`Unpacking the image of Linux ${release}`)
      const paths = kernelPaths(path.dirname(work), release, work)
      await extractVmlinux(paths.bzImage, paths.vmlinux)
      await run(findProgram('depmod'), ['-b', work, release], { attempt: `listing the modules of Linux ${release}` })
      renameInto(work, target)
    } finally {
      fs.rmSync(work, { recursive: true, force: true })
    }
  }
  writeIndex(cache, name, release)
  return release
}

/** The newest package of this flavour that apt knows, or undefined. Asks apt to update its lists if it knows none. */
async function newestPackage(name, log) {
  const aptCache = findProgram('apt-cache')
  if (aptCache === undefined || process.arch !== 'x64') return undefined
  const { pattern } = FLAVOURS[name]
  const ask = async () => {
    const { stdout } = await run(aptCache, ['pkgnames', 'linux-image-6.1'], { mayFail: true })
    const names = stdout.toString().split('\n').filter((line) => pattern.test(line))
    names.sort((a, b) => Number(pattern.exec(b)[1]) - Number(pattern.exec(a)[1]))
    // a name may be known only because another package mentions it: take the newest that has a version to install
    for (const candidate of names) {
      const policy = await run(aptCache, ['policy', candidate], { mayFail: true })
      if (/Candidate: \d/.test(policy.stdout.toString())) return candidate
    }
    return undefined
  }
  const first = await ask()
  if (first !== undefined || process.getuid() !== 0) return first
  log('Fetching the lists of packages with apt-get update')
  await run(findProgram('apt-get'), ['-q', 'update'], { mayFail: true })
  return ask()
}

/** Downloads a kernel package and unpacks it into `work`. */
async function downloadKernel(name, work) {
  const download = path.join(work, '.download')
  fs.mkdirSync(download)
  await run(findProgram('apt-get'), ['-q', 'download', name], { cwd: download, attempt: `downloading ${name} with apt-get` })
  const file = fs.readdirSync(download).find((entry) => entry.endsWith('.deb'))
  if (file === undefined) throw new Error(`apt-get said it downloaded ${name}, but no package file is there.`)
  await run(findProgram('dpkg-deb'), ['-x', path.join(download, file), work], { attempt: `unpacking ${name}` })
  fs.rmSync(download, { recursive: true })
  fs.rmSync(path.join(work, 'usr', 'share'), { recursive: true, force: true })
}

/** The release of a kernel that this host has in /boot and /lib/modules: the running one if it is there. */
function hostRelease() {
  const there = (release) => fs.existsSync(`/lib/modules/${release}`) && hostImage(release) !== undefined
  if (there(os.release())) return os.release()
  const others = fs.existsSync('/lib/modules') ? fs.readdirSync('/lib/modules').filter(there).sort() : []
  const newest = others.at(-1)
  if (newest === undefined) {
    throw new Error('The lab needs a Linux kernel for its emulated host: neither a Debian kernel package nor a readable one in /boot with its modules in /lib/modules was found.')
  }
  return newest
}

/** The readable bzImage of a release on this host, or undefined. */
function hostImage(release) {
  return [`/boot/vmlinuz-${release}`, `/lib/modules/${release}/vmlinuz`].find((file) => {
    try {
      fs.accessSync(file, fs.constants.R_OK)
      return true
    } catch {
      return false
    }
  })
}

function copyHostKernel(release, work) {
  fs.mkdirSync(path.join(work, 'boot'))
  fs.copyFileSync(hostImage(release), path.join(work, 'boot', `vmlinuz-${release}`))
  const config = [`/boot/config-${release}`, `/lib/modules/${release}/config`].find((file) => fs.existsSync(file))
  if (config !== undefined) fs.copyFileSync(config, path.join(work, 'boot', `config-${release}`))
  fs.mkdirSync(path.join(work, 'lib', 'modules'), { recursive: true })
  fs.cpSync(`/lib/modules/${release}`, path.join(work, 'lib', 'modules', release), {
    recursive: true,
    filter: (source) => !['build', 'source'].includes(path.basename(source))
  })
}

// The x86 boot protocol's header (Documentation/arch/x86/boot.rst)
const SETUP_SECTS = 0x1f1
const PAYLOAD_OFFSET = 0x248
const PAYLOAD_LENGTH = 0x24c
/** First bytes of the payload, and what unpacks it. */
const DECOMPRESSORS = [
  ['28b52ffd', 'zstd', ['-dcq']],
  ['fd377a58', 'xz', ['-dcq']],
  ['1f8b', 'gzip', ['-dcq']],
  ['02214c18', 'lz4', ['-dcq']],
  ['425a68', 'bzip2', ['-dcq']]
]

/** Takes the ELF image out of a bzImage. Exported for its test. */
export async function extractVmlinux(bzImage, target) {
  const image = fs.readFileSync(bzImage)
  const setupSectors = image[SETUP_SECTS] || 4
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(PAYLOAD_OFFSET)
  // the last four bytes are the unpacked size, which is no part of the compressed stream
  const payload = image.subarray(start, start + image.readUInt32LE(PAYLOAD_LENGTH) - 4)
  const found = DECOMPRESSORS.find(([magic]) => payload.subarray(0, magic.length / 2).toString('hex') === magic)
  if (found === undefined) throw new Error(`The image ${bzImage} is packed in a way that the lab does not know (it begins with ${payload.subarray(0, 4).toString('hex')}).`)
  const [, program, args] = found
  const file = findProgram(program)
  if (file === undefined) throw new Error(`The program "${program}" is needed to unpack ${bzImage}. Install it and try again.`)
  const { stdout } = await run(file, args, { input: payload, mayFail: true })
  if (stdout.subarray(0, 4).toString('latin1') !== '\x7fELF') throw new Error(`No ELF image was found in ${bzImage}.`)
  fs.writeFileSync(target, stdout)
}

/** Builds the initramfs of a kernel: busybox, the modules of INITRAMFS_MODULES and what they need, and the scripts. */
async function prepareInitramfs({ release, log, cache }) {
  const target = initramfsPath(cache, release)
  if (fs.existsSync(target)) return
  log(`Building the lab's initramfs for Linux ${release}`)
  const folder = path.dirname(target)
  fs.mkdirSync(folder, { recursive: true })
  removeOld(folder, release)
  const work = fs.mkdtempSync(path.join(folder, '.new-'))
  try {
    const kernel = path.join(cache, 'kernels', release)
    const root = path.join(work, 'root')
    for (const entry of ['bin', 'dev', 'proc', 'sys', 'etc', 'run', 'modules']) fs.mkdirSync(path.join(root, entry), { recursive: true })
    fs.copyFileSync(findProgram('busybox'), path.join(root, 'bin', 'busybox'))
    fs.writeFileSync(path.join(root, 'init'), INIT_SCRIPT, { mode: 0o755 })
    fs.writeFileSync(path.join(root, 'stage2'), STAGE2_SCRIPT, { mode: 0o755 })
    fs.chmodSync(path.join(root, 'bin', 'busybox'), 0o755)
    for (const [list, modules] of Object.entries(INITRAMFS_MODULES)) {
      const files = await moduleFiles(kernel, release, modules)
      for (const file of files) fs.writeFileSync(path.join(root, 'modules', moduleName(file)), await unpackModule(file))
      fs.writeFileSync(path.join(root, 'modules', `${list}.order`), files.map((file) => moduleName(file) + '\n').join(''))
    }
    const names = fs.readdirSync(root, { recursive: true }).map(String).sort()
    const cpio = await run(findProgram('cpio'), ['-o', '-H', 'newc', '--quiet', '-R', '0:0'], { cwd: root, input: names.join('\n') + '\n', attempt: "packing the lab's initramfs" })
    const file = path.join(work, 'initramfs.cpio')
    fs.writeFileSync(file, cpio.stdout)
    fs.renameSync(file, target)
  } finally {
    fs.rmSync(work, { recursive: true, force: true })
  }
}

/** Removes this kernel's images that other versions of the scripts have left, a day after they were made. */
function removeOld(folder, release) {
  const DAY = 86_400_000
  for (const entry of fs.readdirSync(folder)) {
    const file = path.join(folder, entry)
    if (entry.startsWith(`${release}-`) && Date.now() - fs.statSync(file).mtimeMs > DAY) fs.rmSync(file, { force: true })
  }
}

/** The files of these modules and of what they need, in the order of loading. What is built into the kernel has none. */
async function moduleFiles(kernel, release, modules) {
  const files = new Set()
  for (const module of modules) {
    // --show-depends prints one `insmod FILE` a line, dependencies first, and `builtin NAME` for what is in the kernel
    const { stdout } = await run(findProgram('modprobe'), ['-C', '/dev/null', '-d', kernel, '-S', release, '--show-depends', module], { mayFail: true })
    for (const match of stdout.toString().matchAll(/^insmod (\S+)/gm)) files.add(match[1])
  }
  return [...files]
}

const MODULE_UNPACKERS = { '.xz': 'xz', '.zst': 'zstd', '.gz': 'gzip' }

function moduleName(file) {
  return path.basename(file).replace(/\.ko(\..*)?$/, '.ko')
}

async function unpackModule(file) {
  const tool = MODULE_UNPACKERS[path.extname(file)]
  if (tool === undefined) return fs.readFileSync(file)
  return (await run(findProgram(tool), ['-dcq', file], { attempt: `unpacking ${file}` })).stdout
}

function kernelPaths(cache, release, folder = path.join(cache, 'kernels', release)) {
  return {
    release,
    bzImage: path.join(folder, 'boot', `vmlinuz-${release}`),
    config: path.join(folder, 'boot', `config-${release}`),
    vmlinux: path.join(folder, 'vmlinux'),
    modules: path.join(folder, 'lib', 'modules', release)
  }
}

function initramfsPath(cache, release) {
  const hash = createHash('sha256').update(INIT_SCRIPT).update(STAGE2_SCRIPT).update(JSON.stringify(INITRAMFS_MODULES)).digest('hex')
  return path.join(cache, 'initramfs', `${release}-${hash.slice(0, 12)}.cpio`)
}

function readIndex(cache) {
  const index = {}
  for (const name of Object.keys(FLAVOURS)) {
    try {
      index[name] = fs.readFileSync(path.join(cache, `${name}.release`), 'utf8').trim()
    } catch {
      // not prepared
    }
  }
  return index
}

function writeIndex(cache, name, release) {
  const file = path.join(cache, `${name}.release`)
  const temporary = `${file}.${process.pid}`
  fs.writeFileSync(temporary, release + '\n')
  fs.renameSync(temporary, file)
}

/** Renames a finished folder into place; if another set-up was quicker, its folder stays. */
function renameInto(work, target) {
  try {
    fs.chmodSync(work, 0o755)
    fs.renameSync(work, target)
  } catch (error) {
    if (!['EEXIST', 'ENOTEMPTY'].includes(error.code)) throw error
  }
}

/** Runs a program without blocking; stdout as a Buffer. Throws with its words unless `mayFail`. */
function run(file, args, { input, cwd, env, attempt, mayFail = false } = {}) {
  return new Promise((resolve, reject) => {
    if (file === undefined) {
      reject(new Error(`A program is missing for ${attempt ?? args.join(' ')}.`))
      return
    }
    const child = spawn(file, args, { cwd, env, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] })
    const out = []
    const err = []
    child.stdout.on('data', (chunk) => out.push(chunk))
    child.stderr.on('data', (chunk) => err.push(chunk))
    child.on('error', reject)
    child.on('close', (code) => {
      const stdout = Buffer.concat(out)
      const stderr = Buffer.concat(err).toString()
      if (code === 0 || mayFail) resolve({ code, stdout, stderr })
      else reject(new Error(`${attempt ?? `${file} ${args.join(' ')}`} failed (exit code ${code}): ${stderr.trim().slice(-2000)}`))
    })
    if (input !== undefined) {
      child.stdin.on('error', () => {}) // a decompressor that ends early closes its input
      child.stdin.end(input)
    }
  })
}

// `node scripts/setup/lab.mjs` prepares the lab alone, and prints where everything lies
if (path.basename(process.argv[1] ?? '') === 'lab.mjs' && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  prepareLab({ log: (line) => console.error(line) }).then(
    (paths) => console.log(JSON.stringify(paths, null, 2)),
    (error) => {
      console.error(error.message)
      process.exitCode = 1
    }
  )
}
