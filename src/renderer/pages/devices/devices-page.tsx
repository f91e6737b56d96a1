// The PCI devices of the computer in their IOMMU groups: which can go to a machine, and why not. It shows, and changes nothing.
import { useState } from 'react';
import { Cpu } from 'lucide-react';
import type { Finding, HostDevices } from '../../../shared/host-devices.ts';
import { Button } from '../../components/button.tsx';
import { Notice, ProblemNotice } from '../../components/notice.tsx';
import { Waiting } from '../../components/waiting.tsx';
import { countWords, framesOf } from '../../state/device-frames.ts';
import { useDevices } from '../../state/devices.ts';
import { useFront } from '../../state/front.ts';
import { go } from '../../state/route.ts';
import { DeviceDialog } from './device-dialog.tsx';
import { Commands } from './findings.tsx';
import { GroupFrame } from './group-frame.tsx';
import styles from './devices.module.css';

const gravity = { information: 'info', care: 'care', refused: 'stop' } as const;

/** What concerns the computer as a whole. */
function Computer({ findings }: { findings: readonly Finding[] }) {
  if (findings.length === 0) return null;
  return (
    <div className={styles.notices}>
      {findings.map(({ code, aspect = '', severity, sentence, remedy, commands }) => (
        <Notice key={`${code} ${aspect}`} gravity={gravity[severity]} title={sentence}>
          {remedy !== '' && <p>{remedy}</p>}
          {commands !== undefined && <Commands title="In a terminal:" commands={commands} />}
        </Notice>
      ))}
    </div>
  );
}

function Groups({ found }: { found: HostDevices }) {
  const [unfolded, setUnfolded] = useState(false);
  const { frames, folded } = framesOf(found);
  if (frames.length + folded.length === 0) {
    return (
      <div className={styles.empty}>
        <Cpu size={32} strokeWidth={1.5} aria-hidden />
        <h2>No PCI devices</h2>
        <p>This computer shows none. Devices that can be given to machines appear here by themselves.</p>
      </div>
    );
  }
  const shown = unfolded ? [...frames, ...folded] : frames;
  return (
    <>
      <ul className={styles.frames} aria-label="Groups of devices">{shown.map((frame) => <GroupFrame key={frame.group.key} frame={frame} />)}</ul>
      {folded.length > 0 && (
        <p className={styles.folded}>
          {folded.length} more that nobody gives away: bridges and parts of the board.
          <Button kind="plain" aria-expanded={unfolded} onPress={() => setUnfolded(!unfolded)}>{unfolded ? 'Hide them' : 'Show them'}</Button>
        </p>
      )}
    </>
  );
}

export function DevicesPage({ address }: { address?: string }) {
  const { found, problem } = useDevices();
  const offline = useFront((front) => front.status === 'offline');
  const ready = found !== null && found.state !== 'reading';
  const words = ready ? countWords(framesOf(found).frames) : '';
  const device = address === undefined || found === null ? undefined : found.devices[address];
  const close = () => go({ page: 'devices' });
  return (
    <div className={styles.page}>
      <div className={styles.head}>
        <div><h1>Devices</h1>{words !== '' && <span>{words}</span>}</div>
        <p>{found?.on === 'lab' ? 'These are the devices of the lab, an emulated computer. ' : ''}What shares a frame can only be given together: the computer cannot keep it apart.</p>
      </div>
      {problem !== null && <div className={styles.notices}><ProblemNotice problem={problem} /></div>}
      {found?.problem !== undefined && <div className={styles.notices}><ProblemNotice problem={found.problem} alert={false} /></div>}
      {ready
        ? <><Computer findings={found.findings} /><Groups found={found} /></>
        : <div className={styles.waiting}>{!offline && problem === null && <Waiting words="Reading the devices" />}</div>}
      {device !== undefined && found !== null && <DeviceDialog device={device} found={found} onClose={close} />}
      {address !== undefined && ready && device === undefined && (
        <div className={styles.notices}><Notice gravity="care" title={`There is no device at ${address} any more`} actions={<Button onPress={close}>Show all devices</Button>} /></div>
      )}
    </div>
  );
}
