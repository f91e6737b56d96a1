// Which machines of the library have which devices of the host, as their files say and as they run now.
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { LibraryEntry } from '../../shared/protocol/front.ts';
import { isHeld } from '../../vmm/server/run-record.ts';
import type { Library } from '../library/library.ts';
import type { Claim } from './findings/finding.ts';

function claims(config: MachineConfig, running: boolean): Claim[] {
  return config.devices.flatMap((device) => (device.kind === 'vfio-pci' ? [{ address: device.address, machine: config.name, id: config.id, running }] : []));
}

/** From the machines as a front shows them. */
export function claimsIn(entries: readonly LibraryEntry[]): Claim[] {
  return entries.flatMap(({ config, state }) => (config === undefined ? [] : claims(config, state !== 'off' && state !== 'failed')));
}

/** From the library's folder. Never throws: a machine that cannot be read claims nothing. */
export function claimsOf(library: Library): Claim[] {
  try {
    return library.ids().flatMap((id) => {
      const read = library.read(id);
      return 'damaged' in read ? [] : claims(read.config, isHeld(library.folderOf(id)));
    });
  } catch {
    return [];
  }
}
