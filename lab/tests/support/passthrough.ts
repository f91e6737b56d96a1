// Devices of the lab for guests, as a test has them: bound to vfio-pci as root, their groups given to the lab's ordinary user, and given back
// to the host's own driver afterwards.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { LabHost } from '../../host.ts';

const DEVICES = '/sys/bus/pci/devices';

/** Runs shell lines as root in the lab. Fails when they do. */
export async function asRoot(lab: LabHost, script: string): Promise<string> {
  const result = await lab.run(['/bin/sh', '-ec', script], { user: 'root', timeout: 60_000 });
  assert.equal(result.code, 0, `${script}: ${result.stdout}${result.stderr}`);
  return result.stdout;
}

/** Binds a device to vfio-pci and gives its group to the ordinary user. */
export async function bind(lab: LabHost, address: string): Promise<void> {
  const uid = (await lab.run(['id', '-u'])).stdout.trim();
  await asRoot(lab, `cd ${DEVICES}/${address}
    echo vfio-pci > driver_override
    [ ! -e driver ] || echo ${address} > driver/unbind
    echo ${address} > /sys/bus/pci/drivers_probe
    [ "$(basename "$(readlink driver)")" = vfio-pci ]
    node=/dev/vfio/$(basename "$(readlink iommu_group)")
    i=0; while [ ! -e $node ]; do i=$((i + 1)); [ $i -lt 100 ]; sleep 0.1; done
    chown ${uid} $node; chmod 600 $node; chmod 666 /dev/vfio/vfio`);
}

/** Gives a device back to whichever driver of the host wants it. @returns the driver that has it then, '' for none */
export async function giveBack(lab: LabHost, address: string): Promise<string> {
  return (await asRoot(lab, `cd ${DEVICES}/${address}
    echo > driver_override
    [ ! -e driver ] || echo ${address} > driver/unbind
    echo ${address} > /sys/bus/pci/drivers_probe
    [ ! -e driver ] || basename "$(readlink driver)"`)).trim();
}

const PCI_DATA = 0x1c;

/** An expansion ROM with one image, which is the last (PCI Firmware Specification 3.0 §5.1.1), filled with chance. @param bytes a multiple of 512 */
export function romImage(bytes: number): Uint8Array {
  const rom = randomBytes(bytes);
  rom.set([0x55, 0xaa, bytes / 512]);
  rom.writeUInt16LE(PCI_DATA, 0x18);
  rom.write('PCIR', PCI_DATA, 'latin1');
  rom.writeUInt16LE(0x18, PCI_DATA + 0x0a);
  rom.writeUInt16LE(bytes / 512, PCI_DATA + 0x10);
  rom[PCI_DATA + 0x15] = 0x80;
  return rom;
}

/** The SHA-256 of a device's expansion ROM, as a Linux sees it whose shell `run` is. Fails when it has none. */
export async function readRom(run: (script: string) => Promise<string>, address: string): Promise<string> {
  const said = await run(`cd ${DEVICES}/${address}; echo 1 > rom; wc -c < rom; sha256sum < rom; echo 0 > rom; cd /`);
  const [bytes, digest] = said.trim().split(/\s+/);
  assert.ok(Number(bytes) > 0, said);
  return digest!;
}
