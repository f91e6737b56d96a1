// The PCI devices of the computer in their IOMMU groups: which can go to a machine, which has one, why not and what to do about it; what
// Vitrine has changed on the computer for machines, and how that is undone.
import { countWords, framesOf } from '../../state/device-frames.ts';
import type { Frame } from '../../state/device-frames.ts';
import { Button } from '../../components/button.tsx';
import { useKeptFocus } from '../../components/kept-focus.ts';
import { Notice, ProblemNotice } from '../../components/notice.tsx';
import { Waiting } from '../../components/waiting.tsx';
import { useDevices } from '../../state/devices.ts';
import { openDialog } from '../../state/dialogs.ts';
import { useFront } from '../../state/front.ts';
import { useLeases } from '../../state/leases.ts';
import { ownersOf } from '../../state/machine-devices.ts';
import { go, hashOf } from '../../state/route.ts';
import { nameOf } from '../../state/words.ts';
import { Computer } from './computer.tsx';
import { DeviceDialog } from './device-dialog.tsx';
import { DeviceList } from './device-list.tsx';
import { Changes, Permissions } from './leases.tsx';
import styles from './devices.module.css';

function FrameFoot({ frame }: { frame: Frame }) {
  const machines = useFront((front) => front.machines);
  const owners = ownersOf(machines, frame.group.devices);
  const { group, devices } = frame;
  return (
    <>
      <span className={styles.owner}>
        {owners.map((owner, at) => <span key={owner.id}>{at === 0 ? 'Given to ' : ', '}<a href={hashOf({ page: 'machine', id: owner.id, tab: 'screen' })}>{nameOf(owner)}</a></span>)}
      </span>
      {group.verdict !== 'not-possible' && (
        <Button kind="plain" aria-label={`Give ${frame.title} to a machine…`} onPress={() => openDialog({ kind: 'give', group: group.key, name: devices[0].name })}>Give to a machine…</Button>
      )}
    </>
  );
}

export function DevicesPage({ address }: { address?: string }) {
  const { found, problem } = useDevices();
  const page = useKeptFocus<HTMLDivElement>();
  const leases = useLeases();
  const machines = useFront((front) => front.machines);
  const offline = useFront((front) => front.status === 'offline');
  const ready = found !== null && found.state !== 'reading';
  const words = ready ? countWords(framesOf(found).frames) : '';
  const device = address === undefined || found === null ? undefined : found.devices[address];
  const close = () => go({ page: 'devices' });
  const footed = (frame: Frame) => (frame.group.verdict !== 'not-possible' || ownersOf(machines, frame.group.devices).length > 0 ? <FrameFoot frame={frame} /> : undefined);
  return (
    <div ref={page} className={styles.page}>
      <div className={styles.head}>
        <div><h1>Devices</h1>{words !== '' && <span>{words}</span>}</div>
        <p>{found?.on === 'lab' ? 'These are the devices of the lab, an emulated computer. ' : ''}What shares a frame can only be given together: the computer cannot keep it apart.</p>
      </div>
      {problem !== null && <div className={styles.notices}><ProblemNotice problem={problem} /></div>}
      {found?.problem !== undefined && <div className={styles.notices}><ProblemNotice problem={found.problem} alert={false} /></div>}
      {address !== undefined && ready && device === undefined && (
        <div className={styles.notices}><Notice gravity="care" title={`There is no device at ${address} any more`} actions={<Button onPress={close}>Show all devices</Button>} /></div>
      )}
      {ready
        ? (
          <>
            <Computer findings={found.findings} />
            {leases !== null && <Changes leases={leases} found={found} />}
            <DeviceList found={found} foot={footed} />
            {leases !== null && <Permissions leases={leases} found={found} />}
          </>
        )
        : <div className={styles.waiting}>{!offline && problem === null && <Waiting words="Reading the devices" />}</div>}
      {device !== undefined && found !== null && <DeviceDialog device={device} found={found} onClose={close} />}
    </div>
  );
}
