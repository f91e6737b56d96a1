// Devices of the lab for guests, as a test has them: bound to vfio-pci as root, their groups given to the lab's ordinary user, and given back
// to the host's own driver afterwards.
import assert from 'node:assert/strict';
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
