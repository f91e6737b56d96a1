// The frames of all groups in an order that stays, with what nobody gives away folded into one line.
import { useState } from 'react';
import type { ReactNode } from 'react';
import { Cpu } from 'lucide-react';
import type { HostDevices } from '../../../shared/host-devices.ts';
import { Button } from '../../components/button.tsx';
import { SearchField } from '../../components/field.tsx';
import { framesOf, matchesFrame } from '../../state/device-frames.ts';
import type { Frame } from '../../state/device-frames.ts';
import { GroupFrame } from './group-frame.tsx';
import type { GroupFrameProps } from './group-frame.tsx';
import styles from './devices.module.css';

/** From so many frames on there is a field to search them. */
const MANY = 12;

export interface DeviceListProps {
  found: HostDevices;
  choice?: (frame: Frame) => GroupFrameProps['choice'];
  foot?: (frame: Frame) => ReactNode;
}

export function DeviceList({ found, choice, foot }: DeviceListProps) {
  const [unfolded, setUnfolded] = useState(false);
  const [search, setSearch] = useState('');
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
  // What is chosen stays in sight whatever is searched for.
  const shown = frames.filter((frame) => matchesFrame(frame, search) || choice?.(frame)?.selected);
  return (
    <>
      {frames.length > MANY && <div className={styles.find}><SearchField label="Search devices" value={search} onChange={setSearch} />{search !== '' && <span role="status">{shown.length} of {frames.length}</span>}</div>}
      <ul className={styles.frames} data-many={frames.length > MANY || undefined} aria-label="Groups of devices">
        {shown.map((frame) => <GroupFrame key={frame.group.key} frame={frame} choice={choice?.(frame)} foot={foot?.(frame)} />)}
        {unfolded && folded.map((frame) => <GroupFrame key={frame.group.key} frame={frame} choice={choice === undefined ? undefined : { selected: false, disabled: true, onChange: () => {} }} />)}
      </ul>
      {folded.length > 0 && (
        <p className={styles.folded}>
          {folded.length} more that nobody gives away: bridges and parts of the board.
          <Button kind="plain" aria-expanded={unfolded} onPress={() => setUnfolded(!unfolded)}>{unfolded ? 'Hide them' : 'Show them'}</Button>
        </p>
      )}
    </>
  );
}
