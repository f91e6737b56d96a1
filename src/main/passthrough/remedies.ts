// What the buttons beside findings do. Each is one thing, undone by another button or by itself; what needs root goes through the privileged
// helper, which asks for permission and judges by itself.
import type { HostDevices } from '../../shared/host-devices.ts';
import { hostDevicesOf } from '../../shared/machine-config.ts';
import { VitrineError } from '../../shared/errors.ts';
import type { RemedyRequest } from '../../shared/passthrough.ts';
import type { ChangeOptions } from '../lease/changes.ts';
import { grant, installHelper, removeHelper, reserve, restoreFunctions, revoke, setFunctions, unreserve } from '../lease/changes.ts';
import { applyPlan } from '../lease/lease.ts';
import { lockedBytes } from '../lease/pinned.ts';
import type { LeaseModule } from '../lease/protocol.ts';
import { movedTo, shortAddress } from './identity.ts';
import type { Performing } from './perform.ts';
import { releaseDevices, takeDevices } from './perform.ts';

export interface Remedying extends Performing {
  /** The devices as they are now. */
  read: (signal?: AbortSignal) => Promise<HostDevices>;
}

/** What modprobe is told: the rest comes along by itself. */
function modulesFor(which: 'vfio' | 'kvm', { host }: HostDevices): LeaseModule[] {
  if (which === 'vfio') return ['vfio-pci'];
  return [host?.cpuVendor === 'amd' ? 'kvm_amd' : 'kvm_intel'];
}

async function moveTo({ id, address, to }: { id: string; address: string; to: string }, { library, read, signal }: Remedying): Promise<void> {
  const config = library.config(id);
  const attempted = 'use the device at another slot';
  const no = (why: string, code: string) => new VitrineError({ attempted, on: `${config.name}, ${shortAddress(address)}`, why, remedy: '', code });
  if (!hostDevicesOf(config).some((device) => device.address === address)) throw no('the machine does not have this device.', 'no-such-device');
  if (hostDevicesOf(config).some((device) => device.address === to)) throw no(`the machine has the device in slot ${shortAddress(to)} already.`, 'bad-machine');
  const { devices } = await read(signal);
  if (!Object.hasOwn(devices, to)) throw no(`there is no device in slot ${shortAddress(to)}.`, 'no-such-device');
  await library.update(id, { devices: movedTo(config.devices, address, devices[to]) });
}

/** The machine may have these of its devices without a password; whole groups, and as much memory as it has now. */
async function grantDevices({ id, addresses }: { id: string; addresses: string[] }, { library, place, signal }: Remedying): Promise<void> {
  const config = library.config(id);
  const own = hostDevicesOf(config).map(({ address }) => address);
  const strange = addresses.find((address) => !own.includes(address));
  if (strange !== undefined) throw new VitrineError({ attempted: 'allow the machine its devices without a password', on: config.name, why: `it does not have ${strange}.`, remedy: 'Give it to the machine first.', code: 'no-such-device' });
  await grant(id, lockedBytes(config), addresses, { starter: place.starter, signal });
}

/** Does what a button says. Throws what it cannot do, in words. */
export async function doRemedy(request: RemedyRequest, remedying: Remedying): Promise<void> {
  const { place, signal, read, progress = () => {} } = remedying;
  const changing: ChangeOptions = { starter: place.starter, signal, onProgress: (text) => progress({ done: 0, text }) };
  if (request.verb !== 'use-at') progress({ done: 0, text: 'Waiting for permission' });
  switch (request.verb) {
    case 'load-modules': {
      const names = modulesFor(request.modules, await read(signal));
      await applyPlan(names.map((name) => ({ verb: 'module', name })), names.join(', '), { starter: place.starter, attempted: 'load the kernel\'s module', signal });
      return;
    }
    case 'use-at':
      return moveTo(request, remedying);
    case 'move':
      return takeDevices({ id: request.from, addresses: request.addresses }, remedying);
    case 'release':
      return releaseDevices(request.addresses, remedying);
    case 'reserve':
      await reserve(request.address, changing);
      return;
    case 'unreserve':
      return unreserve(request.address, changing);
    case 'set-functions':
      return setFunctions(request.address, request.count, changing);
    case 'restore-functions':
      return restoreFunctions(request.address, changing);
    case 'grant':
      return grantDevices(request, remedying);
    case 'revoke':
      return revoke(request.id, changing);
    case 'install-helper':
      return installHelper(changing);
    case 'remove-helper':
      await removeHelper(changing);
  }
}
