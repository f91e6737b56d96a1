// Which machines of the library have which devices of the host, as their files say and as they run now.
import type { Library } from '../library/library.ts';
import { isHeld } from '../../vmm/server/run-record.ts';
import type { Claim } from './findings/finding.ts';

/** A device of the host in a machine's file. */
interface HasDevices {
  devices?: readonly { kind: string; address?: string }[];
}

/** Never throws: a machine that cannot be read claims nothing. */
export function claimsOf(library: Library): Claim[] {
  try {
    return library.ids().flatMap((id) => {
      const read = library.read(id);
      if ('damaged' in read) return [];
      const { name, devices = [] } = read.config as HasDevices & { name: string };
      const addresses = devices.flatMap(({ kind, address }) => (kind === 'vfio-pci' && address !== undefined ? [address] : []));
      if (addresses.length === 0) return [];
      const running = isHeld(library.folderOf(id));
      return addresses.map((address) => ({ address, machine: name, running }));
    });
  } catch {
    return [];
  }
}
