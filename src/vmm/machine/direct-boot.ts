// Direct boot: the firmware's work on devices that were just reset, then the kernel into RAM. The same call again is a guest's reset.
import { randomBytes } from 'node:crypto';
import { SELECT_CPUS, SELECT_MAX_CPUS, SELECT_RAM_SIZE, FwCfgBuilder, type FwCfgItems } from '../devices/fw-cfg-items.ts';
import { APM_CONTROL_PORT, PM_TIMER_BITS, SLEEP_TYPE_S4, SLEEP_TYPE_S5 } from '../devices/pm.ts';
import { HOTPLUG_GPE, HOTPLUG_PORT, HOTPLUG_PORTS } from '../devices/pci-hotplug.ts';
import { DEVICE_SLOTS } from '../../shared/slots.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import { pciInterruptRouting } from '../pci/intx.ts';
import { buildAcpi } from '../arch/x86/acpi/build.ts';
import type { BootEntry } from '../arch/x86/boot/entry.ts';
import { loadGuest } from '../arch/x86/boot/load-guest.ts';
import { ACPI_NVS, ACPI_TABLES } from '../arch/x86/boot/low-memory.ts';
import { programForDirectBoot } from '../arch/x86/chipset/chipset.ts';
import { PM_SIZE } from '../arch/x86/layout.ts';
import type { MachineDevices } from './devices.ts';

const RNG_SEED_BYTES = 32;

export interface DirectBootOptions {
  readonly ram: GuestMemory;
  readonly devices: MachineDevices;
  readonly kernel: string;
  readonly initrd?: string;
  readonly append: string;
  readonly apicIds: readonly number[];
  readonly mode: { readonly width: number; readonly height: number } | null;
}

/** What fw_cfg tells a guest that asks, whoever booted it. */
export function fwCfgItems(memory: number, cpus: number): FwCfgItems {
  return new FwCfgBuilder().addNumber(SELECT_RAM_SIZE, memory, 8).addNumber(SELECT_CPUS, cpus, 2).addNumber(SELECT_MAX_CPUS, cpus, 2).seal();
}

/** Every vCPU must be parked, and every device reset. Throws VitrineError when a file is not what it should be or does not fit. */
export function directBoot(options: DirectBootOptions): BootEntry {
  const { ram, devices, mode } = options;
  const { host, chipset, display, topology } = devices;
  programForDirectBoot(host, chipset);
  const ecamSpan = chipset.mch.ecam();
  const ecam = ecamSpan === undefined ? null : { start: ecamSpan.start, size: ecamSpan.end - ecamSpan.start };
  const pm = chipset.lpc.pm()!; // just programmed
  const { windows } = topology;
  const acpi = buildAcpi({
    area: { start: ACPI_TABLES, end: ACPI_NVS },
    facs: ACPI_NVS,
    apicIds: options.apicIds,
    ecam,
    ioWindow: windows.io,
    memoryWindow: windows.memory,
    highWindow: windows.high ?? null,
    routes: pciInterruptRouting(),
    pm: { base: pm.start, size: PM_SIZE, timer32: PM_TIMER_BITS > 24 },
    sleep: { s4: SLEEP_TYPE_S4, s5: SLEEP_TYPE_S5 },
    hotplug: { port: HOTPLUG_PORT, ports: HOTPLUG_PORTS, event: HOTPLUG_GPE, slots: DEVICE_SLOTS },
    reservedPorts: [{ start: APM_CONTROL_PORT, size: 2 }],
  });
  let framebuffer = null;
  if (display !== null && mode !== null) {
    const { width, height, stride, offset } = display.setMode(mode);
    const bar = display.config.bars.find(({ index }) => index === 0)!;
    const { address } = topology.run(() => topology.whereIs(display, 0));
    framebuffer = { address: address + offset, size: bar.size, width, height, stride, bitsPerPixel: 32 as const };
  }
  const entry = loadGuest({
    kernel: options.kernel,
    initrd: options.initrd,
    append: options.append,
    memory: ram,
    framebuffer,
    acpiRsdp: acpi.rsdp,
    ecam,
    rngSeed: randomBytes(RNG_SEED_BYTES),
  });
  for (const { address, bytes } of acpi.blobs) {
    if (!ram.write(address, bytes)) throw new Error(`an ACPI table does not lie in RAM: ${address.toString(16)}`);
  }
  return entry;
}
