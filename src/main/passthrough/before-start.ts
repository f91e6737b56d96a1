// What is looked at before a machine with devices of the computer is started: whether they are there, as its file knows them. A device that
// has moved and is told by its serial number is followed; anything less certain is said, and a person decides (the remedy "use-at").
import { VitrineError } from '../../shared/errors.ts';
import { hostDevicesOf } from '../../shared/machine-config.ts';
import type { HostDevices } from '../../shared/host-devices.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { Claim } from '../host-devices/findings/finding.ts';
import { inside } from '../host-devices/findings/finding.ts';
import type { Library } from '../library/library.ts';
import { deviceTroubles, movedTo, shortAddress } from './identity.ts';

export interface BeforeStart {
  library: Library;
  found: HostDevices;
  /** Of all machines. */
  claims: readonly Claim[];
  /** Something was changed in the machine's file: said to whoever starts it. */
  onNote?: (note: string) => void;
}

/**
 * The configuration to start with: the machine's file, in which devices that have certainly moved have their new address. Throws codes
 * "device-gone", "device-moved", "device-replaced", "device-taken", and "only-gpu" from a desktop that would end.
 */
export async function settleDevices(config: MachineConfig, { library, found, claims, onNote = () => {} }: BeforeStart): Promise<MachineConfig> {
  if (hostDevicesOf(config).length === 0 || found.state !== 'ready') return config;
  const attempted = 'start the machine';
  let settled = config;
  const troubles = deviceTroubles(config, found, claims);
  const stays = troubles.find(({ certain }) => certain !== true);
  if (stays !== undefined) throw new VitrineError({ attempted, on: config.name, why: inside(stays.sentence), remedy: stays.remedy, code: `device-${stays.kind}` });
  for (const { address, to, name } of troubles) {
    settled = { ...settled, devices: movedTo(settled.devices, address, found.devices[to!]) };
    onNote(`${name} has moved from slot ${shortAddress(address)} to ${shortAddress(to!)}; ${config.name} has it there now.`);
  }
  for (const { address } of hostDevicesOf(settled)) {
    const ends = found.devices[address]?.findings.find(({ code, aspect }) => code === 'only-gpu' && aspect === 'desktop');
    if (ends !== undefined) throw new VitrineError({ attempted, on: config.name, why: `${found.devices[address].name}: ${inside(ends.sentence)}`, remedy: ends.remedy, code: 'only-gpu' });
  }
  if (settled !== config) await library.update(config.id, { devices: settled.devices });
  return settled;
}
