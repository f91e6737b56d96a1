// The Q35 memory controller hub, function 00:00.0 (Intel 3 Series datasheet §5; 8086:29c0): PCIEXBAR places ECAM; PAM, SMRAM and the top-of-memory
// registers are kept as written. Left out: what PAM and SMRAM would do (RAM is behind all of it), DMI, MCHBAR, graphics.
import { ECAM_BASE, ECAM_SIZE } from '../layout.ts';
import { PCI_COMMAND, PciFunction } from '../../../pci/function.ts';
import type { Platform } from '../../../devices/device.ts';
import type { Mutex } from '../../../sync/mutex.ts';
import type { PciDevice, Span } from '../../../pci/device.ts';
import type { PciHost } from '../../../pci/host.ts';

const INTEL = 0x8086;
const MCH = 0x29c0;
const HOST_BRIDGE = 0x06_00_00;

const EPBAR = 0x40;
const MCHBAR = 0x48;
export const PCIEXBAR = 0x60;
const DMIBAR = 0x68;
export const PAM0 = 0x90;
const PAM_COUNT = 7;
const LAC = 0x97;
const SMRAM = 0x9d;
const ESMRAMC = 0x9e;
const TOM = 0xa0;
const TOUUD = 0xa2;
const TOLUD = 0xb0;
const SKPD = 0xdc; // scratchpad

const DECODES_ALWAYS = 0x6; // memory, bus master: read-only ones
const SERR = 0x100;
const PCIEXBAR_ENABLE = 0x1;
const PCIEXBAR_LENGTH = 0x6;
const MIB = 2 ** 20;
/** By the length field: 256, 128 and 64 MiB; 3 is reserved. */
const LENGTHS = [256 * MIB, 128 * MIB, 64 * MIB];
const ADDRESS_BITS_HIGH = 0xf; // 36 bits

export class HostBridge implements PciDevice {
  readonly label = '00:00.0 host bridge';
  readonly mutex: Mutex;
  readonly ranges = [];
  readonly config: PciFunction;
  #host: PciHost;

  constructor(platform: Platform, host: PciHost) {
    this.mutex = platform.arena.mutex('mch.lock');
    this.#host = host;
    this.config = new PciFunction(platform.arena, {
      label: this.label,
      vendorId: INTEL,
      deviceId: MCH,
      classCode: HOST_BRIDGE,
      extra(image) {
        image.set(PCI_COMMAND, 2, DECODES_ALWAYS);
        image.writable.fill(0, PCI_COMMAND, PCI_COMMAND + 2);
        image.allow(PCI_COMMAND, 2, SERR);
        for (const bar of [EPBAR, MCHBAR, DMIBAR]) image.allow(bar, 4, 0xffff_f001).allow(bar + 4, 4, ADDRESS_BITS_HIGH);
        image.set(PCIEXBAR, 4, 0xe000_0000).allow(PCIEXBAR, 4, 0xfc00_0007).allow(PCIEXBAR + 4, 4, ADDRESS_BITS_HIGH);
        for (let at = 0; at < PAM_COUNT; at++) image.allow(PAM0 + at, 1, at === 0 ? 0x30 : 0x33);
        image.allow(LAC, 1, 0x81);
        image.set(SMRAM, 1, 0x02).allow(SMRAM, 1, 0x78);
        image.set(ESMRAMC, 1, 0x38).allow(ESMRAMC, 1, 0x87);
        image.allow(TOM, 2, 0x01ff).allow(TOUUD, 2, 0xffff).allow(TOLUD, 2, 0xfff0).allow(SKPD, 4, 0xffff_ffff);
      },
    });
    host.topology.addMovable(this, { name: 'ecam', space: 'memory', handler: host.ecam, mutex: host.topology.lock, where: ecamSpan });
  }

  reset(): void {
    // Nothing beyond the configuration space, which the host resets.
  }

  /** Where ECAM is now, for MCFG and the memory map. */
  ecam(): Span | undefined {
    return ecamSpan((register) => this.config.dword(register));
  }

  /** What firmware would do: ECAM at `base`, of the layout's size. Topology lock not held. */
  enableEcam(base = ECAM_BASE): void {
    this.#host.topology.run(() => {
      this.#host.write(0, PCIEXBAR + 4, 4, Math.floor(base / 2 ** 32));
      this.#host.write(0, PCIEXBAR, 4, (base % 2 ** 32) + (LENGTHS.indexOf(ECAM_SIZE) << 1) + PCIEXBAR_ENABLE);
    });
  }
}

function ecamSpan(dword: (register: number) => number): Span | undefined {
  const low = dword(PCIEXBAR);
  const size = LENGTHS[(low & PCIEXBAR_LENGTH) >> 1];
  if ((low & PCIEXBAR_ENABLE) === 0 || size === undefined) return undefined;
  const address = dword(PCIEXBAR + 4) * 2 ** 32 + ((low & 0xfc00_0000) >>> 0);
  const start = Math.floor(address / size) * size;
  return { start, end: start + size };
}
