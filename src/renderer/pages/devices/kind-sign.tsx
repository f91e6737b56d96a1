// The picture of a device's kind.
import { AudioLines, CircuitBoard, Cpu, EthernetPort, Gpu, HardDrive, Keyboard, Microchip, Plug, Usb, Waypoints, Wifi } from 'lucide-react';
import type { DeviceKind } from '../../../shared/host-devices.ts';

const signs: Record<DeviceKind, typeof Cpu> = {
  graphics: Gpu, accelerator: Microchip, network: EthernetPort, wireless: Wifi, nvme: HardDrive, storage: HardDrive, usb: Usb, audio: AudioLines,
  serial: Plug, input: Keyboard, other: Cpu, board: CircuitBoard, bridge: Waypoints,
};

export function KindSign({ kind }: { kind: DeviceKind }) {
  const Sign = signs[kind];
  return <Sign size={18} aria-hidden />;
}
