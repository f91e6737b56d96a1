// The two chipset functions together, in their slots: what a machine adds before its devices, and what direct boot programs at each start.
import { SLOT_HOST_BRIDGE, SLOT_LPC } from '../layout.ts';
import { assignResources } from '../../../pci/allocate.ts';
import { FIRMWARE_PIRQ_ISA, LpcBridge } from './lpc.ts';
import { HostBridge } from './mch.ts';
import type { Handler } from '../../../bus/handler.ts';
import type { Platform } from '../../../devices/device.ts';
import type { Mutex } from '../../../sync/mutex.ts';
import type { PciHost } from '../../../pci/host.ts';

export interface Chipset {
  readonly mch: HostBridge;
  readonly lpc: LpcBridge;
}

/** Alike in every thread. @param pm the power management block's ports and their mutex. */
export function addChipset(platform: Platform, host: PciHost, pm: { readonly handler: Handler; readonly mutex: Mutex }): Chipset {
  const mch = new HostBridge(platform, host);
  const lpc = new LpcBridge(platform, host, pm);
  host.add(mch, SLOT_HOST_BRIDGE);
  host.add(lpc, SLOT_LPC);
  return { mch, lpc };
}

/**
 * The firmware's work of direct boot: ECAM, PM block and PIRQs on, all BARs assigned and decoding. On the control thread, after host.reset() and the
 * devices' reset(), with no vCPU running. Throws a VitrineError when a window is exhausted.
 */
export function programForDirectBoot(host: PciHost, chipset: Chipset): void {
  chipset.mch.enableEcam();
  chipset.lpc.program();
  assignResources(host, FIRMWARE_PIRQ_ISA);
}
