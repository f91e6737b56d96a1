// The second step: one verdict for each group that is chosen, why it is so for each of its devices, and what to do about each thing that
// stands in the way or is good to know.
import type { HostDevices } from '../../../shared/host-devices.ts';
import type { Leases } from '../../../shared/passthrough.ts';
import { Button } from '../../components/button.tsx';
import { VerdictSign } from '../../components/verdict-sign.tsx';
import { shortAddress } from '../../state/device-frames.ts';
import type { Frame } from '../../state/device-frames.ts';
import { blocking, byGravity, chosenWords, needsHelper } from '../../state/give-words.ts';
import { Computer, HelperNotice } from '../devices/computer.tsx';
import { Findings, saysUse } from '../devices/findings.tsx';
import { KindSign } from '../devices/kind-sign.tsx';
import type { RomPart } from '../devices/remedies.tsx';
import type { StepCommon } from './choose.tsx';
import { Step } from './steps.tsx';
import styles from './give.module.css';

export interface UnderstandProps extends StepCommon {
  found: HostDevices;
  chosen: Frame[];
  helper?: Leases['helper'];
  rom: RomPart;
  onLeaveOut: (key: string) => void;
  onNext: () => void;
}

function Group({ frame, rom, onLeaveOut }: { frame: Frame; rom: RomPart; onLeaveOut?: () => void }) {
  const { group, devices, bridges, legend, title } = frame;
  const id = `understand-${group.key}`;
  return (
    <section className={styles.group} aria-labelledby={id} data-group={group.key}>
      <div className={styles.groupHead}>
        <div>
          <small>{legend}</small>
          <h2 id={id}>{title}</h2>
          <p>{group.sentence}</p>
        </div>
        <VerdictSign verdict={group.verdict} />
        {onLeaveOut !== undefined && <Button onPress={onLeaveOut}>Leave it out</Button>}
      </div>
      <ul>
        {devices.map((device) => {
          const { address, name, kind, sentence, findings } = device;
          const uses = device.uses.filter((use) => !findings.some((finding) => saysUse(finding, use)));
          return (
            <li key={address} className={styles.device}>
              <KindSign kind={kind} />
              <div>
                <h3>{name} <code>{shortAddress(address)}</code></h3>
                {!findings.some((finding) => finding.sentence === sentence) && sentence !== group.sentence && <p>{sentence}</p>}
                {uses.length > 0 && <ul className={styles.uses}>{uses.map((use) => <li key={use.kind}>{use.sentence} <code>{use.detail}</code></li>)}</ul>}
                {findings.length > 0 && <Findings findings={byGravity(findings)} on={name} rom={rom} uses={device.uses} />}
              </div>
            </li>
          );
        })}
      </ul>
      {bridges.length > 0 && (
        <p className={styles.bridges}>
          {bridges.length === 1 ? 'The bridge' : 'The bridges'} <code>{bridges.map(shortAddress).join(', ')}</code> {bridges.length === 1 ? 'is' : 'are'} in this group, too, and {bridges.length === 1 ? 'stays' : 'stay'} with the computer: a bridge only leads to what is behind it.
        </p>
      )}
    </section>
  );
}

export function Understand({ what, notices, onBack, blocked, found, chosen, helper, rom, onLeaveOut, onNext }: UnderstandProps) {
  const stops = blocking(found, chosen);
  const stopped = stops.frames.length + stops.computer.length > 0;
  const wanted = [...found.findings, ...chosen.flatMap(({ devices }) => devices.flatMap(({ findings }) => findings))].some(({ actions = [] }) => actions.some(({ verb }) => needsHelper(verb)));
  const hint = stops.computer.length > 0
    ? 'This computer cannot give devices as it is. Do what is said above first.'
    : stops.frames.length > 0
      ? `${chosenWords(stops.frames)} cannot be given as things are${stops.frames.length < chosen.length ? ': do what is said above, or leave it out' : '. What can be done is said above'}.`
      : undefined;
  return (
    <Step
      title={`What giving ${what === '' ? 'it' : what} means`}
      lede={stopped ? 'Nothing has been changed. What stands in the way is said first, with what to do about it.' : 'Nothing has been changed, and the next step shows every change before it is made.'}
      left={<Button kind="plain" onPress={onBack}>Back</Button>}
      hint={hint}
      right={<Button kind="primary" isDisabled={blocked || stopped || chosen.length === 0} onPress={onNext}>Review the changes</Button>}
    >
      {notices}
      {helper !== undefined && wanted && helper.state !== 'installed' && <div className={styles.narrow}><HelperNotice helper={helper} /></div>}
      <Computer findings={byGravity(found.findings)} />
      {chosen.map((frame) => <Group key={frame.group.key} frame={frame} rom={rom} onLeaveOut={chosen.length > 1 ? () => onLeaveOut(frame.group.key) : undefined} />)}
    </Step>
  );
}
