// Devices that machines are to have and that are not there as they know them, live while somebody watches the machines and one of them has
// devices of this computer: nothing is read for people who give nothing away.
import type { HostDevices } from '../../shared/host-devices.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { DeviceTrouble } from '../../shared/passthrough.ts';
import type { Claim } from '../host-devices/findings/finding.ts';
import type { DeviceWatch } from '../host-devices/watch.ts';
import { deviceTroubles } from '../passthrough/identity.ts';

export class TroubleWatch {
  readonly #devices: DeviceWatch;
  readonly #changed: () => void;
  #found: HostDevices | null = null;
  #stop: (() => void) | null = null;

  /** @param changed called when there may be other troubles than before */
  constructor(devices: DeviceWatch, changed: () => void) {
    this.#devices = devices;
    this.#changed = changed;
  }

  /** Begins to watch, or ends it; what was seen last is then forgotten. */
  want(wanted: boolean): void {
    if (wanted === (this.#stop !== null)) return;
    this.#stop?.();
    this.#stop = null;
    this.#found = null;
    if (!wanted) return;
    this.#stop = this.#devices.watch((found) => {
      // What was read stays in sight when the reader fails.
      if (found.state !== 'ready') return;
      this.#found = found;
      this.#changed();
    });
  }

  /** Undefined where there are none, or nobody knows. */
  of(config: MachineConfig | undefined, claims: readonly Claim[]): DeviceTrouble[] | undefined {
    if (config === undefined || this.#found === null) return undefined;
    const found = deviceTroubles(config, this.#found, claims).map(({ certain: _, ...trouble }) => trouble);
    return found.length === 0 ? undefined : found;
  }
}
