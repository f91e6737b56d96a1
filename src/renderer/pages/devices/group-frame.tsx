// One IOMMU group: a frame that its devices share, with one verdict. A device's name opens what is known of it; alone in its frame, it is
// the frame's title.
import { useId } from 'react';
import { VerdictSign } from '../../components/verdict-sign.tsx';
import { shortAddress } from '../../state/device-frames.ts';
import type { Frame } from '../../state/device-frames.ts';
import { hashOf } from '../../state/route.ts';
import { KindSign } from './kind-sign.tsx';
import styles from './devices.module.css';

/** Whether a device's own line says already what the group's sentence says. */
function saidBelow({ group, devices }: Frame): boolean {
  return devices.some(({ name, sentence }) => group.sentence.toLowerCase() === `${name}: ${sentence}`.toLowerCase() || group.sentence === sentence);
}

export function GroupFrame({ frame }: { frame: Frame }) {
  const { group, devices, bridges, legend, title } = frame;
  const alone = devices.length === 1;
  const id = useId();
  return (
    <li className={styles.frame} aria-labelledby={id} data-group={group.key}>
      <p className={styles.legend}>{legend}</p>
      <div className={styles.frameHead}>
        <h2 id={id}>{alone ? <a href={hashOf({ page: 'devices', address: devices[0].address })}>{title}</a> : title}</h2>
        <VerdictSign verdict={group.verdict} />
      </div>
      {!saidBelow(frame) && <p className={styles.reason}>{group.sentence}</p>}
      <ul>
        {devices.map(({ address, name, kind, className, sentence, place }) => (
          <li key={address} className={styles.device}>
            <KindSign kind={kind} />
            <div>
              {alone ? <span>{className}</span> : <a href={hashOf({ page: 'devices', address })}>{name}</a>}
              <p>{sentence}</p>
            </div>
            <div className={styles.where}><code>{shortAddress(address)}</code>{place !== undefined && <p title={place}>{place}</p>}</div>
          </li>
        ))}
      </ul>
      {bridges.length > 0 && <p className={styles.bridges}>{bridges.length === 1 ? 'The bridge' : 'The bridges'} <code>{bridges.map(shortAddress).join(', ')}</code> {bridges.length === 1 ? 'stays' : 'stay'} with the computer.</p>}
    </li>
  );
}
