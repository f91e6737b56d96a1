// What concerns one device: what the computer would lose with it, its driver, its reset, its ROM, its registers.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding, Use } from '../../../shared/host-devices.ts';
import { HELPER } from '../../lease/installed.ts';
import type { Remedy } from '../distribution.ts';
import { addParameter, initramfsCommand } from '../distribution.ts';
import { firmwareRegions } from '../iommu.ts';
import { devicePath, listedUpTo } from '../owner.ts';
import { isVfio } from '../pci.ts';
import { lines, linkName } from '../roots.ts';
import type { Candidate, Claim, Scene } from './finding.ts';
import { called, finding, remedy, size, withActions } from './finding.ts';

const PAGE = 4096;
const GiB = 2 ** 30;

const UNMOUNT: Partial<Record<Use['kind'], string>> = {
  root: 'Start the computer from another disk to give this one away.',
  home: 'Move your home directory to another disk first.',
  boot: 'Start the computer from another disk to give this one away.',
  mount: 'Unmount it first.',
  swap: 'Switch this swap space off first.',
};

/** Whether other links go on when this group's are gone. */
function linksElsewhere({ links, devices }: Scene, group: string): boolean {
  return links.some(({ used, owner }) => used && (owner === undefined || devices.get(owner)?.group !== group));
}

function hostNeeds(scene: Scene, { fn, uses, group }: Candidate): Finding[] {
  const found = uses.flatMap(({ kind, sentence, detail }): Finding[] => {
    const words = UNMOUNT[kind];
    if (words !== undefined) {
      const command = kind === 'mount' ? 'umount' : kind === 'swap' ? 'swapoff' : undefined;
      const targets = detail.slice(0, detail.lastIndexOf(' on ')).split(', ');
      return [finding('host-needs-it', 'refused', sentence, command === undefined ? words : remedy(words, targets.map((target) => `sudo ${command} ${quoted(target)}`)), { on: detail }, kind)];
    }
    if (kind === 'network' && !linksElsewhere(scene, group)) {
      return [finding('host-needs-it', 'refused', sentence.replace(/\.$/, ', and there is no other connection.'), 'Connect this computer by another card or by wireless first.', { on: detail }, kind)];
    }
    return [];
  });
  const regions = fn.group === undefined ? [] : firmwareRegions(scene.roots, fn.group);
  if (regions.length > 0) {
    // Intel's driver has always refused such devices, the others' do in newer kernels.
    const intel = scene.iommu.kind === 'intel';
    const sentence = intel ? 'The firmware keeps memory for this device (RMRR), so Linux does not give it away.' : 'The firmware keeps memory for this device, and Linux may refuse to give it away.';
    found.push(finding('host-needs-it', intel ? 'refused' : 'care', sentence, 'Some firmware has a setting that ends this; else another slot or card.', { regions }, 'firmware'));
  }
  return found;
}

/** A word for a shell. */
function quoted(word: string): string {
  return /^[\w/.:=@+-]+$/.test(word) ? word : `'${word.replaceAll('\'', '\'\\\'\'')}'`;
}

/** One file for all cards: of several `options` lines for a module only the last `ids=` counts (native/lease/reserve.c). */
const RESERVED = 'modprobe.d/vitrine.conf';

/** The commands that make the file say this, or remove it. */
function putReserved(content: string[]): string {
  return content.length === 0 ? `sudo rm /etc/${RESERVED}` : `printf '%s\\n' ${content.map((line) => `'${line}'`).join(' ')} | sudo tee /etc/${RESERVED}`;
}

/** How no driver of the host ever touches the card: vfio-pci takes it by its ids before they are loaded. */
function reserve(scene: Scene, device: Candidate): Remedy & Pick<Finding, 'actions'> {
  const { roots } = scene;
  if (scene.lasting.reserved.some(({ address }) => address.slice(0, -2) === device.fn.slot)) {
    return { remedy: 'It is reserved from start-up on: restart the computer, and no driver of it touches the card.', actions: [{ label: 'Reserve it no more', verb: 'unreserve', address: device.fn.address }] };
  }
  const card = (scene.groups.get(device.group) ?? []).filter(({ fn, role }) => fn.slot === device.fn.slot && role !== 'bridge');
  const ids = [...new Set(card.map(({ fn }) => `${fn.vendorId}:${fn.deviceId}`))];
  const words = 'Reserve it from start-up, so that no driver of the computer touches it, and restart the computer.';
  // Ids would take a twin of this card along, which the computer may need.
  const twins = [...scene.devices.values()].some(({ fn }) => fn.slot !== device.fn.slot && ids.includes(`${fn.vendorId}:${fn.deviceId}`));
  if (twins) return remedy(`${words} There are others of its kind: driverctl reserves by address.`, card.map(({ fn }) => `sudo driverctl set-override ${fn.address} vfio-pci`), card.map(({ fn }) => `sudo driverctl unset-override ${fn.address}`));
  const actions: Finding['actions'] = [{ label: 'Reserve it from start-up', verb: 'reserve', address: device.fn.address }];
  // Where the helper is, it keeps the record of what is reserved, and the file is its own.
  if (existsSync(join(roots.etc, '..', HELPER))) return { actions, ...remedy(words, [`sudo ${HELPER} reserve ${device.fn.address}`], [`sudo ${HELPER} unreserve ${device.fn.address}`]) };
  const drivers = [...new Set(card.map(({ fn }) => fn.driver).filter((name): name is string => name !== undefined && !isVfio(name)))];
  const modules = drivers.map((name) => linkName(roots.sys, 'bus/pci/drivers', name, 'module') ?? name);
  const before = lines(roots.etc, RESERVED).filter((line) => /^(softdep|options) [\w=:,. -]+$/.test(line));
  const options = 'options vfio-pci ids=';
  const reserved = before.filter((line) => line.startsWith(options)).flatMap((line) => line.slice(options.length).split(','));
  const content = [...new Set([...before.filter((line) => !line.startsWith(options)), ...modules.map((name) => `softdep ${name} pre: vfio-pci`)]), `${options}${[...new Set([...reserved, ...ids])].join(',')}`];
  const initramfs = initramfsCommand(roots);
  // Debian's finds vfio-pci by the softdep; these are told to take it in.
  const early = initramfs.includes('mkinitcpio') ? ['mkinitcpio.conf.d', 'MODULES+=(vfio_pci)'] : initramfs.includes('dracut') ? ['dracut.conf.d', 'force_drivers+=" vfio-pci "'] : undefined;
  const put = early === undefined ? [] : [`echo '${early[1]}' | sudo tee /etc/${early[0]}/vitrine.conf`];
  const remove = early === undefined || before.length > 0 ? [] : [`sudo rm /etc/${early[0]}/vitrine.conf`];
  return { actions, ...remedy(words, [putReserved(content), ...put, initramfs], [putReserved(before), ...remove, initramfs]) };
}

function driver(scene: Scene, device: Candidate): Finding[] {
  const { fn, uses, kind, role, group } = device;
  if (fn.driver === undefined || isVfio(fn.driver)) return [];
  const programs = scene.programs.devices.get(fn.address) ?? [];
  const facts: Finding['facts'] = { driver: fn.driver, ...(programs.length > 0 ? { programs } : {}) };
  const usedFor = (wanted: Use['kind']) => uses.find((each) => each.kind === wanted);
  const say = (severity: Finding['severity'], sentence: string, aspect: string, what: string | Remedy = '') => [finding('driver-in-use', severity, sentence, what, facts, aspect)];
  const held = programs.length === 0 ? '' : ` ${listedUpTo(3, programs)} ${programs.length === 1 ? 'holds' : 'hold'} it open.`;
  const shown = usedFor('screen');
  if (shown !== undefined) return say('care', `${shown.sentence} ${shown.detail.includes(', ') ? 'They go' : 'It goes'} dark.${held}`, 'screen', reserve(scene, device));
  const volume = usedFor('volume');
  if (volume !== undefined) return say('care', volume.sentence, 'volume', 'Close the volume first.');
  const network = usedFor('network');
  if (network !== undefined && linksElsewhere(scene, group)) return say('care', `${network.sentence} It stops; other connections go on.`, 'network');
  const input = usedFor('input');
  if (input !== undefined) return say('care', `${input.sentence} The machine gets what is plugged in.`, 'input', 'Plug them into another controller, or keep a second keyboard.');
  const sound = usedFor('sound');
  if (sound !== undefined) return say('care', `${sound.sentence} It stops.`, 'sound');
  if (programs.length > 0) return say('care', `${listedUpTo(3, programs)} ${programs.length === 1 ? 'holds' : 'hold'} it open.`, 'programs', kind === 'graphics' ? reserve(scene, device) : 'Close these programs first.');
  // A graphics driver may wait for ever for whoever still draws, or leave the card in a state that no other driver can use.
  if (kind === 'graphics') return say('care', `Its driver ${fn.driver} does not always let go of a card.`, 'graphics', reserve(scene, device));
  const plugged = usedFor('usb');
  if (plugged !== undefined) return say('care', `${plugged.sentence} The machine gets what is plugged in.`, 'usb');
  if (role === 'board') return say('care', `It is a part of the computer's board, and the driver ${fn.driver} works with it.`, 'board');
  // What the computer needs is said by itself.
  if (uses.some(({ kind: each }) => each !== 'framebuffer')) return [];
  return say('information', `Nothing uses it now; its driver ${fn.driver} lets go of it first.`, 'idle');
}

function graphics(scene: Scene, device: Candidate): Finding[] {
  const { fn, kind } = device;
  const found: Finding[] = [];
  if (scene.framebuffer?.address === fn.address) {
    found.push(finding('boot-framebuffer', 'care', 'The picture that the computer started with still lies in this card.', leaveFramebuffer(scene), { framebuffer: scene.framebuffer.name }));
  }
  if (kind !== 'graphics' || fn.physicalFunction !== undefined || isVfio(fn.driver)) return found;
  const others = [...scene.devices.values()].filter((other) => other.kind === 'graphics' && other !== device && !isVfio(other.fn.driver) && other.fn.physicalFunction === undefined && other.fn.classCode.startsWith('0300'));
  // A card that shows nothing now is no loss.
  if (others.length > 0 || !fn.classCode.startsWith('0300') || (fn.driver === undefined && !fn.bootVga)) return found;
  const otherwise = 'Start the machine from a text console (Ctrl+Alt+F3) or over SSH. The screen comes back when the machine stops; so started, after 5 minutes unless you press Enter.';
  if (scene.roots.desktop) found.push(finding('only-gpu', 'refused', 'It is the only graphics card, and this desktop would end with it.', remedy(otherwise, ['vitrine start NAME --revert 300']), {}, 'desktop'));
  else found.push(finding('only-gpu', 'care', 'It is the only graphics card, and this computer shows nothing while a machine has it.', 'Keep a way in over SSH. The screen comes back when the machine stops.', {}, 'console'));
  return found;
}

/** The firmware's picture goes to another card, or the kernel leaves it alone. */
function leaveFramebuffer({ roots, framebuffer }: Scene): Remedy {
  const parameter = framebuffer !== undefined && /^(efi|vesa)/.test(framebuffer.name) ? `video=${framebuffer.name.startsWith('efi') ? 'efifb' : 'vesafb'}:off` : 'initcall_blacklist=sysfb_init';
  const { remedy: words, ...how } = addParameter(roots, parameter);
  return { remedy: `Choose another card as the first one in the firmware's set-up. Or ${words[0].toLowerCase()}${words.slice(1)}`, ...how };
}

/** Functions that a reset of the bus would take along. */
function onSameBus({ devices }: Scene, { fn }: Candidate): Candidate[] {
  if (fn.parent === undefined) return [];
  return [...devices.values()].filter((other) => other.fn.address !== fn.address && other.fn.parent === fn.parent);
}

function reset(scene: Scene, device: Candidate): Finding[] {
  const { fn, role, group } = device;
  if (role !== 'endpoint' || fn.resets.length > 0) return [];
  const along = onSameBus(scene, device);
  const outside = along.filter((other) => other.group !== group);
  if (along.length > 0 && outside.length === 0) {
    return [finding('no-reset', 'information', `It is reset together with ${listedUpTo(3, along.map(({ name }) => name))}.`, '', { along: along.map(({ fn: { address } }) => address) }, 'together')];
  }
  if (outside.length > 0) {
    return [finding('no-reset', 'care', `A reset would take ${listedUpTo(3, outside.map(called))} along, which stays with the computer: it is not reset.`, 'Another slot may have a bus of its own. Without a reset, a machine may not start a second time until the computer restarts.', { along: outside.map(({ fn: { address } }) => address) }, 'bus')];
  }
  return [finding('no-reset', 'care', 'It cannot be reset: a machine may find it as the last user left it.', 'If the machine does not start a second time, restart the computer.', {}, 'none')];
}

function rom({ fn, kind }: Candidate): Finding[] {
  if (kind !== 'graphics' || !fn.classCode.startsWith('0300') || fn.physicalFunction !== undefined) return [];
  const file = devicePath(fn.address, 'rom');
  const dump = fn.rom === undefined ? 'Choose a file with its ROM.' : remedy('Choose a file with its ROM. One can be saved while another card is the first.', [`echo 1 | sudo tee ${file}`, `sudo cat ${file} > card.rom`, `echo 0 | sudo tee ${file}`]);
  const choose = { label: 'Choose a file with its ROM', verb: 'ask-rom', address: fn.address } as const;
  if (fn.rom === undefined) return [finding('rom-missing', 'information', 'Its ROM cannot be read: the machine has no picture on it until the guest\'s own driver runs.', dump, {}, 'missing')].map((each) => withActions(each, choose));
  if (fn.rom.shadowed) return [finding('rom-missing', 'information', 'Its ROM is the copy that the firmware has run, which may not start a second time.', dump, { size: fn.rom.size }, 'shadowed')].map((each) => withActions(each, choose));
  return [];
}

function registers({ fn }: Candidate): Finding[] {
  const found: Finding[] = [];
  const msix = fn.config?.msix;
  if (msix !== undefined) {
    const bar = fn.bars.find(({ index }) => index === msix.table.bar);
    const pages = (offset: number, length: number) => (Math.floor((offset + length - 1) / PAGE) - Math.floor(offset / PAGE) + 1) * PAGE;
    const pending = msix.pba.bar === msix.table.bar ? pages(msix.pba.offset, Math.ceil(msix.vectors / 64) * 8) : 0;
    if (bar !== undefined && bar.size > pages(msix.table.offset, msix.tableSize) + pending) {
      found.push(finding('msix-shared-bar', 'information', `Its table of interrupts shares BAR ${bar.index} with registers: the pages of the table go through Vitrine.`, '', { bar: bar.index, offset: msix.table.offset, vectors: msix.vectors }));
    }
  }
  const large = fn.bars.filter(({ size: bytes }) => bytes >= 4 * GiB);
  if (large.length > 0) found.push(finding('bar-size', 'information', `It shows ${size(Math.max(...large.map(({ size: bytes }) => bytes)))} of memory at once: the guest must be a 64-bit system.`, '', { bars: large.map(({ index, size: bytes }) => `BAR ${index}: ${size(bytes)}`) }, 'large'));
  const small = fn.bars.filter(({ kind, size: bytes }) => kind !== 'io' && bytes < PAGE);
  if (small.length > 0) found.push(finding('bar-size', 'information', `Registers in ${small.map(({ index }) => `BAR ${index}`).join(' and ')} are smaller than a page: each access goes through Vitrine.`, '', { bars: small.map(({ index, size: bytes }) => `BAR ${index}: ${size(bytes)}`) }, 'small'));
  return found;
}

function access({ roots }: Scene, { fn }: Candidate): Finding[] {
  if (!isVfio(fn.driver) || fn.group === undefined) return [];
  const denied = [`vfio/${fn.group}`, 'vfio/vfio'].find((node) => existsSync(join(roots.dev, node)) && !roots.mayUse(join(roots.dev, node)));
  if (denied === undefined) return [];
  return [finding('no-vfio-access', 'care', `You may not use /dev/${denied}.`, remedy('Vitrine asks for it when a machine starts. Or take it until the computer restarts.', [`sudo chown $USER /dev/${denied}`]), { path: `/dev/${denied}` })];
}

function virtualFunctions(scene: Scene, { fn, kind }: Candidate): Finding[] {
  const found = fn.virtualFunctions;
  if (found === undefined || fn.physicalFunction !== undefined || isVfio(fn.driver)) return [];
  const thing = kind === 'network' ? 'network cards' : 'devices';
  const facts: Finding['facts'] = { total: found.total, enabled: found.enabled, ...(found.addresses.length > 0 ? { addresses: found.addresses } : {}) };
  const before = scene.lasting.functions.find(({ address }) => address === fn.address)?.before;
  const back: NonNullable<Finding['actions']> = before === undefined ? [] : [{ label: `Set their number back to ${before}`, verb: 'restore-functions', address: fn.address }];
  const change = { verb: 'set-functions', address: fn.address, most: found.total } as const;
  if (found.enabled > 0) return [finding('kernel-modules', 'care', `Its ${found.enabled} virtual ${thing} go with it.`, `Give one of them instead: ${listedUpTo(4, found.addresses)}.`, facts, 'virtual-functions')].map((each) => withActions(each, { label: 'Change their number', ...change }, ...back));
  const some = Math.min(4, found.total);
  return [finding('kernel-modules', 'information', `It can show itself as up to ${found.total} more ${thing}: a machine takes one, and the computer keeps the card.`, remedy(`Make ${some} of them.`, [`echo ${some} | sudo tee ${devicePath(fn.address, 'sriov_numvfs')}`], [`echo 0 | sudo tee ${devicePath(fn.address, 'sriov_numvfs')}`]), facts, 'virtual-functions')].map((each) => withActions(each, { label: 'Make virtual functions', ...change }));
}

function claimed(scene: Scene, { group }: Candidate): Finding[] {
  const members = scene.groups.get(group) ?? [];
  const own = ({ id, machine }: Claim) => (id !== undefined && scene.machine?.id !== undefined ? id === scene.machine.id : machine === scene.machine?.name);
  const claims = scene.claims.filter((claim) => !own(claim) && members.some(({ fn }) => fn.address === claim.address));
  const running = claims.find((claim) => claim.running);
  if (running !== undefined) return [finding('claimed', 'refused', `The machine ${running.machine} has it.`, remedy(`Shut ${running.machine} down first.`, [`vitrine stop ${quoted(running.machine)}`]), { machine: running.machine, address: running.address }, 'running')];
  const number = members[0]?.fn.group;
  const programs = number === undefined ? undefined : scene.programs.groups.get(number);
  if (programs !== undefined) return [finding('claimed', 'refused', `${listedUpTo(3, programs)} has it.`, 'End that program, or the machine that it runs, first.', { programs }, 'program')];
  if (claims.length > 0) {
    const [{ machine, id, address }] = claims;
    const shared = finding('claimed', 'information', `It belongs to the machine ${machine}, which is off.`, 'Both can have it, one at a time.', { machine, address }, 'off');
    return [id === undefined ? shared : withActions(shared, { label: `Take it out of ${machine}`, verb: 'move', machine: id, address })];
  }
  return [];
}

/** All but those that come from its group (group.ts), in the order of the codes. */
export function deviceFindings(scene: Scene, device: Candidate): Finding[] {
  if (device.role === 'bridge') return [];
  const shows = graphics(scene, device);
  // The only card must not be reserved from start-up: there would be no picture at all.
  const only = shows.some(({ code }) => code === 'only-gpu');
  return [
    ...hostNeeds(scene, device), ...driver(scene, device).map((each) => (only ? { ...each, remedy: '', commands: undefined, undo: undefined, actions: undefined } : each)), ...shows, ...reset(scene, device), ...rom(device), ...registers(device),
    ...access(scene, device), ...virtualFunctions(scene, device), ...claimed(scene, device),
  ];
}
