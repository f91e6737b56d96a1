// What kind of thing a PCI function is, by its class code (PCI Code and ID Assignment Specification 1.11).
import type { DeviceKind, HostDevice } from '../../shared/host-devices.ts';

/** By class and subclass, then by class alone. */
const KINDS: Record<string, DeviceKind> = {
  '0108': 'nvme', '01': 'storage',
  '0280': 'wireless', '02': 'network',
  '03': 'graphics',
  '0401': 'audio', '0403': 'audio', '04': 'other',
  '0600': 'board', '0601': 'board', '0604': 'bridge', '0607': 'bridge', '0609': 'bridge', '060a': 'bridge', '06': 'board',
  '0700': 'serial', '0702': 'serial', '07': 'other',
  '05': 'board',
  '0805': 'storage', '08': 'board',
  '09': 'input',
  '0c03': 'usb', '0c05': 'board', '0c80': 'board', '0c': 'other',
  '0d': 'wireless',
  '0b40': 'accelerator', '12': 'accelerator',
};

export function kindOf(classCode: string): DeviceKind {
  return KINDS[classCode.slice(0, 4)] ?? KINDS[classCode.slice(0, 2)] ?? 'other';
}

export function roleOf(kind: DeviceKind): HostDevice['role'] {
  return kind === 'bridge' || kind === 'board' ? kind : 'endpoint';
}

/** A device without a name in any list: "network card". */
export const KIND_WORDS: Record<DeviceKind, string> = {
  graphics: 'graphics card', audio: 'sound card', network: 'network card', wireless: 'wireless card', nvme: 'NVMe drive', storage: 'disk controller',
  usb: 'USB controller', bridge: 'bridge', board: 'part of the board', serial: 'serial port', input: 'input device', accelerator: 'accelerator', other: 'device',
};
