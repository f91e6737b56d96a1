// Which resets devices need that cannot be reset alone (no FLR, no soft reset by power state, not alone on their bus): with one of them all are
// reset that share its slot or its bus (VFIO_DEVICE_PCI_HOT_RESET, include/uapi/linux/vfio.h). VFIO does it only for who holds the groups of all
// of them, and only if all of them are bound to VFIO; and it must hit nobody who is in use. Nothing here touches a device.
import type { DependentDevice } from './layouts.ts';

export interface ResetWish {
  readonly address: string;
  /** All that would be reset, itself too; empty when VFIO knows of no reset. */
  readonly affected: readonly DependentDevice[];
}

export interface ResetSurroundings {
  /** Groups that this machine holds. */
  readonly held: readonly string[];
  /** Devices that the machine's guest uses meanwhile. */
  readonly used: readonly string[];
  /** Of these devices, those that no driver of VFIO has, in words: "0000:03:00.1 (snd_hda_intel)". */
  readonly strangers: (addresses: readonly string[]) => readonly string[];
}

export interface ResetPlan {
  /** One reset each: through the device `by`, with these groups. */
  readonly resets: readonly { readonly by: string; readonly reaches: readonly string[]; readonly groups: readonly string[] }[];
  readonly refused: readonly { readonly address: string; readonly why: string }[];
}

/** Each device is reset once, however many of those that share its reset are asked for. */
export function planResets(wishes: readonly ResetWish[], { held, used, strangers }: ResetSurroundings): ResetPlan {
  const resets: { by: string; reaches: string[]; groups: string[] }[] = [];
  const refused: { address: string; why: string }[] = [];
  for (const { address, affected } of wishes) {
    if (resets.some(({ reaches }) => reaches.includes(address))) continue;
    const others = affected.filter((each) => each.address !== address);
    const names = (devices: readonly DependentDevice[]): string => devices.map((each) => each.address).join(', ');
    const notOurs = others.filter(({ group }) => !held.includes(String(group)));
    const busy = others.filter((each) => used.includes(each.address));
    const foreign = strangers(others.map((each) => each.address));
    const why =
      affected.length === 0 ? 'it cannot be reset'
      : notOurs.length > 0 ? `it can be reset only together with ${names(notOurs)}, not this machine's`
      : foreign.length > 0 ? `it can be reset only together with ${foreign.join(', ')}, not bound to vfio-pci`
      : busy.length > 0 ? `it can be reset only together with ${names(busy)}, which the guest uses`
      : undefined;
    if (why !== undefined) refused.push({ address, why });
    else resets.push({ by: address, reaches: affected.map((each) => each.address), groups: [...new Set(affected.map(({ group }) => String(group)))] });
  }
  return { resets, refused };
}
