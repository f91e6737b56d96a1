// All that is known of one device: why its verdict is so, what the computer uses it for, what to do, and its facts.
import type { HostDevice, HostDevices } from '../../../shared/host-devices.ts';
import { Button } from '../../components/button.tsx';
import { Dialog } from '../../components/dialog.tsx';
import { VerdictSign } from '../../components/verdict-sign.tsx';
import { byGravity } from '../../state/give-words.ts';
import { openDialog } from '../../state/dialogs.ts';
import { ownersOf } from '../../state/machine-devices.ts';
import { useFront } from '../../state/front.ts';
import { memoryWords, nameOf } from '../../state/words.ts';
import { hashOf } from '../../state/route.ts';
import { Findings } from './findings.tsx';
import styles from './devices.module.css';

const MiB = 2 ** 20;
const kinds = { io: 'I/O', memory32: '32-bit', memory64: '64-bit' } as const;

function size(bytes: number): string {
  return bytes >= MiB ? memoryWords(bytes) : bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} bytes`;
}

function facts(device: HostDevice): [title: string, value: string][] {
  const { revision, subsystemVendorId, subsystemDeviceId, place, parent, driver, bars, rom, resets, link, numaNode, virtualFunctions, physicalFunction, power } = device;
  const rows: [string, string | undefined][] = [
    ['Address', device.address],
    ['Model', `${device.model} [${device.vendorId}:${device.deviceId}]${revision === undefined ? '' : `, revision ${revision}`}`],
    ['Vendor', device.vendor],
    ['Subsystem', subsystemVendorId === undefined ? undefined : `${subsystemVendorId}:${subsystemDeviceId ?? ''}`],
    ['Kind', `${device.className} [${device.classCode}]`],
    ['Place', place],
    ['Behind', parent],
    ['Driver', driver ?? 'None'],
    ['BARs', bars.map(({ index, kind, size: bytes, prefetchable }) => `${index}: ${size(bytes)}, ${kinds[kind]}${prefetchable ? ', prefetchable' : ''}`).join('; ') || undefined],
    ['ROM', rom === undefined ? undefined : `${size(rom.size)}${rom.shadowed ? ', the firmware’s copy' : ''}`],
    ['Resets', device.role === 'endpoint' ? resets.join(', ') || 'None' : undefined],
    ['Link', link === undefined ? undefined : `${link.speed} ×${link.width}, of ${link.maxSpeed} ×${link.maxWidth}`],
    ['NUMA node', numaNode === undefined ? undefined : String(numaNode)],
    ['Virtual functions', virtualFunctions === undefined ? undefined : `${virtualFunctions.enabled} of ${virtualFunctions.total}`],
    ['Virtual function of', physicalFunction],
    ['Power', power],
  ];
  return rows.filter((row): row is [string, string] => row[1] !== undefined);
}

export function DeviceDialog({ device, found, onClose }: { device: HostDevice; found: HostDevices; onClose: () => void }) {
  const group = found.groups[device.group];
  const others = group?.devices.filter((address) => address !== device.address) ?? [];
  const machines = useFront((front) => front.machines);
  const owners = ownersOf(machines, [device.address]);
  const canGo = device.role === 'endpoint' && group !== undefined;
  return (
    <Dialog
      title={device.name} lede={device.sentence} onClose={onClose}
      foot={<>
        <Button autoFocus onPress={onClose}>Close</Button>
        {canGo && <Button kind="primary" onPress={() => openDialog({ kind: 'give', group: group.key, name: device.name })}>Give to a machine…</Button>}
      </>}
    >
      <div className={styles.details}>
        <p><VerdictSign verdict={device.verdict} /></p>
        {owners.length > 0 && <p>{owners.length === 1 ? 'This machine has it' : 'These machines have it, one at a time'}: {owners.map((owner, at) => [at > 0 ? ', ' : '', <a key={owner.id} href={hashOf({ page: 'machine', id: owner.id, tab: 'screen' })}>{nameOf(owner)}</a>])}</p>}
        {device.uses.length > 0 && (
          <section>
            <h3>What it is used for</h3>
            <ul className={styles.uses}>{device.uses.map(({ kind, sentence, detail }) => <li key={kind}>{sentence} <code>{detail}</code></li>)}</ul>
          </section>
        )}
        {device.findings.length > 0 && <section><h3>What to know</h3><Findings findings={byGravity(device.findings)} on={device.name} /></section>}
        {group !== undefined && others.length > 0 && (
          <section><h3>Its group</h3><p>{group.number === undefined ? 'In the same slot' : `Group ${group.number}, with`}: <code>{others.join(', ')}</code>. {group.sentence}</p></section>
        )}
        <section>
          <h3>Facts</h3>
          <dl className={styles.facts}>{facts(device).map(([title, value]) => [<dt key={title}>{title}</dt>, <dd key={`${title} value`}>{value}</dd>])}</dl>
        </section>
      </div>
    </Dialog>
  );
}
