// Which device of the computer a machine means. Addresses change when a card is moved to another slot, or when another one comes or goes
// before it on the bus; so a machine's file says what the device was when it was given, and that is what is looked for. Serial numbers
// are not always to be seen (while vfio-pci has the device, hardly ever): one that is not seen contradicts nothing.
import type { HostDevice, HostDevices } from '../../shared/host-devices.ts';
import type { HostDeviceConfig, MachineConfig } from '../../shared/machine-config.ts';
import { hostDevicesOf } from '../../shared/machine-config.ts';
import type { DeviceTrouble } from '../../shared/passthrough.ts';
import type { Claim } from '../host-devices/findings/finding.ts';
import { listed } from '../host-devices/owner.ts';

export type Identity = NonNullable<HostDeviceConfig['identity']>;

/** What is written into the machine's file. */
export function identityOf({ name, vendorId, deviceId, subsystemVendorId, subsystemDeviceId, serial }: HostDevice): Identity {
  return {
    name, vendorId, deviceId,
    ...(subsystemVendorId === undefined ? {} : { subsystemVendorId }),
    ...(subsystemDeviceId === undefined ? {} : { subsystemDeviceId }),
    ...(serial === undefined ? {} : { serial }),
  };
}

/** Whether the device can be the one that was meant. */
export function isLike(identity: Identity, device: HostDevice): boolean {
  if (identity.vendorId !== device.vendorId || identity.deviceId !== device.deviceId) return false;
  if (identity.subsystemVendorId !== device.subsystemVendorId || identity.subsystemDeviceId !== device.subsystemDeviceId) return false;
  return identity.serial === undefined || device.serial === undefined || identity.serial === device.serial;
}

/** Whether it is that very device, as far as can be told. */
function isSame(identity: Identity, device: HostDevice): boolean {
  return isLike(identity, device) && identity.serial !== undefined && identity.serial === device.serial;
}

/** "03:00.0": people leave the first domain away. */
export function shortAddress(address: string): string {
  return address.replace(/^0000:/, '');
}

/** "0000:03:00": the card. */
function cardOf(address: string): string {
  return address.slice(0, -2);
}

/** A trouble, and for a device that has moved whether it is certainly the same. */
export type Found = DeviceTrouble & { certain?: boolean };

function whereNow(device: HostDeviceConfig, identity: Identity, found: HostDevices, own: ReadonlySet<string>): Pick<Found, 'to' | 'certain'> & { like: HostDevice[] } {
  const like = Object.values(found.devices).filter((each) => each.address !== device.address && !own.has(each.address) && isLike(identity, each));
  const same = like.filter((each) => isSame(identity, each));
  if (same.length === 1) return { to: same[0].address, certain: true, like };
  return { to: like.length === 1 ? like[0].address : undefined, like };
}

/** What is wrong with the devices of a machine. @param claims of all machines, this one among them */
export function deviceTroubles(config: Pick<MachineConfig, 'id' | 'devices'>, found: HostDevices, claims: readonly Claim[] = []): Found[] {
  if (found.state !== 'ready') return [];
  const devices = hostDevicesOf(config);
  const own = new Set(devices.filter(({ address, identity }) => Object.hasOwn(found.devices, address) && (identity === undefined || isLike(identity, found.devices[address]))).map(({ address }) => address));
  const troubles = devices.flatMap((device): Found[] => {
    const { address, identity } = device;
    const at = shortAddress(address);
    const there = Object.hasOwn(found.devices, address) ? found.devices[address] : undefined;
    const name = identity?.name ?? there?.name ?? at;
    if (own.has(address)) {
      const other = claims.find((claim) => claim.address === address && claim.running && claim.id !== config.id);
      if (other === undefined) return [];
      return [{ address, name, kind: 'taken', sentence: `The machine ${other.machine} has ${name}.`, remedy: `Shut ${other.machine} down first.` }];
    }
    const takeOut = 'Put it back, or take it out of the machine.';
    if (identity === undefined) return [{ address, name, kind: 'gone', sentence: `There is no device in slot ${at}.`, remedy: takeOut }];
    const { to, certain, like } = whereNow(device, identity, found, own);
    if (to !== undefined) return [{ address, name, kind: 'moved', sentence: `${name} is not in slot ${at} any more, but in slot ${shortAddress(to)}.`, remedy: `Use it at ${shortAddress(to)}.`, to, certain }];
    if (like.length > 1) return [{ address, name, kind: 'moved', sentence: `${name} is not in slot ${at} any more, and it could be the one in slot ${listed(like.map((each) => shortAddress(each.address)))}.`, remedy: 'Take it out of the machine, and give it the one that is meant.' }];
    if (there !== undefined) return [{ address, name, kind: 'replaced', sentence: `${name} is gone: ${there.name} is in slot ${at} now.`, remedy: 'Put it back, or take it out of the machine and give it the other one.' }];
    return [{ address, name, kind: 'gone', sentence: `${name} is not in this computer any more (it was in slot ${at}).`, remedy: takeOut }];
  });
  // Where one function of a card has certainly gone, the others went along.
  const gone = new Map(troubles.flatMap(({ address, to, certain }) => (certain === true && to !== undefined ? [[cardOf(address), cardOf(to)]] : [])));
  return troubles.map((trouble) => (trouble.to !== undefined && gone.get(cardOf(trouble.address)) === cardOf(trouble.to) && trouble.address.at(-1) === trouble.to.at(-1) ? { ...trouble, certain: true } : trouble));
}

/** The configuration's devices with one of them at another address. */
export function movedTo(devices: MachineConfig['devices'], address: string, to: HostDevice): MachineConfig['devices'] {
  return devices.map((device) => (device.kind === 'vfio-pci' && device.address === address ? { ...device, address: to.address, identity: { ...device.identity, ...identityOf(to) } } : device));
}
