// One IOMMU group: a frame that its devices share, with one verdict. A device's name opens what is known of it; alone in its frame, it is
// the frame's title. In the wizard the title is a check box, and there is nothing to open.
import { useId } from 'react';
import type { ReactNode } from 'react';
import { Check } from '../../components/check.tsx';
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

export interface GroupFrameProps {
  frame: Frame;
  /** In the wizard: whether it is chosen, and what chooses it. */
  choice?: { selected: boolean; disabled: boolean; onChange: (selected: boolean) => void };
  /** Below the devices: who has it, what can be done. */
  foot?: ReactNode;
}

export function GroupFrame({ frame, choice, foot }: GroupFrameProps) {
  const { group, devices, bridges, legend, title } = frame;
  const alone = devices.length === 1;
  const id = useId();
  const said = useId();
  const open = (address: string, name: string) => (choice === undefined ? <a href={hashOf({ page: 'devices', address })}>{name}</a> : name);
  return (
    <li className={styles.frame} aria-labelledby={id} data-group={group.key} data-chosen={choice?.selected || undefined} data-choosable={(choice !== undefined && !choice.disabled) || undefined}>
      <p className={styles.legend}>{legend}</p>
      <div className={styles.frameHead}>
        <h2 id={id}>
          {choice === undefined
            ? (alone ? open(devices[0].address, title) : title)
            : <Check className={styles.choice} isSelected={choice.selected} isDisabled={choice.disabled} onChange={choice.onChange} describedBy={said}>{title}</Check>}
        </h2>
        <VerdictSign verdict={group.verdict} />
      </div>
      <div id={said}>
        {!saidBelow(frame) && <p className={styles.reason}>{group.sentence}</p>}
        <ul>
          {devices.map(({ address, name, kind, className, sentence, place }) => (
            <li key={address} className={styles.device}>
              <KindSign kind={kind} />
              <div>
                {alone ? <span>{className}</span> : open(address, name)}
                <p>{sentence}</p>
              </div>
              <div className={styles.where}><code>{shortAddress(address)}</code>{place !== undefined && <p title={place}>{place}</p>}</div>
            </li>
          ))}
        </ul>
      </div>
      {bridges.length > 0 && <p className={styles.bridges}>{bridges.length === 1 ? 'The bridge' : 'The bridges'} <code>{bridges.map(shortAddress).join(', ')}</code> {bridges.length === 1 ? 'stays' : 'stay'} with the computer.</p>}
      {foot !== undefined && <div className={styles.foot}>{foot}</div>}
    </li>
  );
}
