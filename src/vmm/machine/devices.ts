// Which devices a machine has. Called alike in every thread: the control thread's instances come first and allocate the shared slices,
// each vCPU Worker's are over the same slices. What differs is only who consumes a device's output: the control thread.
import { Bus } from '../bus/bus.ts';
import { addChipset, type Chipset } from '../arch/x86/chipset/chipset.ts';
import { SLOT_DISPLAY } from '../arch/x86/layout.ts';
import { DebugPorts } from '../devices/debug.ts';
import type { Device, Platform } from '../devices/device.ts';
import { FwCfg } from '../devices/fw-cfg.ts';
import { FwCfgItems, type FwCfgDescription } from '../devices/fw-cfg-items.ts';
import { I8042 } from '../devices/i8042.ts';
import { PciHotplug } from '../devices/pci-hotplug.ts';
import { PowerManagement } from '../devices/pm.ts';
import { ResetControl } from '../devices/reset.ts';
import { Rtc } from '../devices/rtc.ts';
import { Serial } from '../devices/serial.ts';
import { DisplayAdapter } from '../display/adapter.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import { attachWindow } from '../memory/window.ts';
import { HIGH_RAM_START } from '../memory/guest-memory.ts';
import { standardWindows } from '../pci/allocate.ts';
import type { IoEvents, MemorySlots, MsiSink, Parking } from '../pci/device.ts';
import { PciHost } from '../pci/host.ts';
import { Topology } from '../pci/topology.ts';
import type { InterruptWiring } from '../vfio/interrupts.ts';
import { buildPlugged, type PluggedDescription } from './plugged.ts';

/** What decides the devices; the same in every thread. */
export interface DeviceOptions {
  readonly cpus: number;
  /** Of the guest's CPUs: bounds the PCI window above RAM. */
  readonly physicalBits: number;
  /** The picture's first size, and the memory behind it; absent for a machine without a display. */
  readonly display?: { readonly width: number; readonly height: number; readonly vram: SharedArrayBuffer };
  readonly testDevices: boolean;
  /** PCI devices beside the chipset and the display. */
  readonly plugged?: readonly PluggedDescription[];
  readonly fwCfg: FwCfgDescription;
}

/** Where output goes; on the control thread only. */
export interface Consumers {
  onSerialOutput?: (bytes: Uint8Array) => boolean | void;
  onSerialRoom?: () => void;
  onDebugOutput?: (bytes: Uint8Array) => void;
}

export interface MachineDevices {
  readonly io: Bus;
  readonly memory: Bus;
  readonly topology: Topology;
  readonly host: PciHost;
  readonly chipset: Chipset;
  readonly serial: Serial;
  readonly i8042: I8042;
  readonly rtc: Rtc;
  readonly pm: PowerManagement;
  readonly hotplug: PciHotplug;
  readonly fwCfg: FwCfg;
  readonly display: DisplayAdapter | null;
  /** All that guests see now, in the order in which they are reset. */
  readonly all: readonly Device[];
}

export interface KvmSide {
  readonly slots: MemorySlots;
  readonly parking: Parking;
  readonly events: IoEvents;
  readonly msi: MsiSink;
  readonly interrupts: InterruptWiring;
}

export function buildDevices(platform: Platform, ram: GuestMemory, options: DeviceOptions, kvm: KvmSide, consumers: Consumers = {}): MachineDevices {
  const io = new Bus(platform.arena, 'io');
  const memory = new Bus(platform.arena, 'memory');
  const last = ram.windows.at(-1)!;
  const windows = standardWindows(last.gpa + last.size, options.physicalBits);
  const topology = new Topology(platform, { io, memory, windows, slots: kvm.slots, parking: kvm.parking, events: kvm.events });

  const resetControl = new ResetControl(platform);
  const host = new PciHost(topology, { resetRegister: { handler: resetControl.register, mutex: resetControl.mutex } });
  const pm = new PowerManagement(platform);
  const chipset = addChipset(platform, host, { handler: pm.block, mutex: pm.mutex });
  const low = ram.windows.filter((window) => window.gpa < HIGH_RAM_START).reduce((sum, window) => sum + window.size, 0);
  const rtc = new Rtc(platform, { lowMemory: low, highMemory: ram.size - low, cpus: options.cpus });
  const serial = new Serial(platform, { onOutput: consumers.onSerialOutput, onInputRoom: consumers.onSerialRoom });
  const i8042 = new I8042(platform);
  const debug = new DebugPorts(platform, { exit: options.testDevices, onOutput: consumers.onDebugOutput });
  const fwCfg = new FwCfg(platform, new FwCfgItems(options.fwCfg), ram);
  const hotplug = new PciHotplug(platform, pm);
  const plain: Device[] = [resetControl, pm, hotplug, rtc, serial, i8042, debug, fwCfg];
  for (const device of plain) topology.addFixed(device);

  let display: DisplayAdapter | null = null;
  if (options.display !== undefined) {
    display = new DisplayAdapter(platform, attachWindow(options.display.vram), options.display, `00:0${SLOT_DISPLAY}.0 display`);
    host.add(display, SLOT_DISPLAY);
  }
  host.intx.onRoute = (pirq, irq) => kvm.interrupts.routes.routePin(pirq, irq);
  for (const description of options.plugged ?? []) buildPlugged(platform, kvm, description).forEach((device, number) => host.add(device, description.slot, number));
  return {
    io, memory, topology, host, chipset, serial, i8042, rtc, pm, hotplug, fwCfg, display,
    get all() {
      return [...plain, ...host.functions().map(({ device }) => device)];
    },
  };
}
