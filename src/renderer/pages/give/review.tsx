// The third step: every change in the order in which it is made, with what it means and how it is undone; what to know before stands above.
import type { HostDevices } from '../../../shared/host-devices.ts';
import type { GiveMode, Leases, Plan } from '../../../shared/passthrough.ts';
import { Button } from '../../components/button.tsx';
import { Check, OneOfField } from '../../components/check.tsx';
import { Commands, CopyButton } from '../../components/commands.tsx';
import { Notice, ProblemNotice } from '../../components/notice.tsx';
import { Technical } from '../../components/technical.tsx';
import { Waiting } from '../../components/waiting.tsx';
import type { Planned } from '../../state/give.ts';
import { byGravity, giveLabel, listWords } from '../../state/give-words.ts';
import { HelperNotice } from '../devices/computer.tsx';
import type { StepCommon } from './choose.tsx';
import { Step } from './steps.tsx';
import styles from './give.module.css';

export interface ReviewProps extends StepCommon {
  planned: Planned;
  found: HostDevices;
  mode: GiveMode;
  onMode: (mode: GiveMode) => void;
  grant: boolean;
  onGrant: (grant: boolean) => void;
  helper?: Leases['helper'];
  onGive: () => void;
}

function StepList({ steps }: { steps: Plan['steps'] }) {
  return (
    <ol className={styles.plan} aria-label="Changes, in order">
      {steps.map(({ what, sentence, detail, undo, addresses }, at) => (
        <li key={`${what} ${addresses.join(' ')} ${sentence}`}>
          <span className={styles.at} aria-hidden>{at + 1}</span>
          <div>
            <h2><Technical>{sentence}</Technical></h2>
            {detail !== '' && <p><Technical>{detail}</Technical></p>}
          </div>
          <p className={styles.undo}>{undo === '' ? '' : <Technical>{`Undone: ${undo[0].toLowerCase()}${undo.slice(1)}`}</Technical>}</p>
        </li>
      ))}
    </ol>
  );
}

function Warnings({ plan, found, id }: { plan: Plan; found: HostDevices; id: string }) {
  // A card that stays because of a start from this desktop is no reason where the plan may be carried out.
  const warnings = plan.warnings.filter(({ code, severity }) => plan.problem !== undefined || code !== 'group-shared' || severity !== 'refused');
  return byGravity(warnings).map(({ code, aspect = '', severity, sentence, remedy, commands, devices }) => {
    const names = listWords(devices.map((address) => found.devices[address]?.name ?? address));
    return (
      <Notice key={`${code} ${aspect} ${devices.join(' ')}`} gravity={severity === 'refused' ? 'stop' : 'care'} title={names === '' ? sentence : `${names}: ${sentence}`}>
        {remedy !== '' && <p>{remedy}</p>}
        {code === 'only-gpu' && commands !== undefined && <Commands title="There:" commands={commands.map((line) => line.replace(/\bNAME\b/, id))} />}
      </Notice>
    );
  });
}

const ledes: Record<GiveMode, string> = {
  start: 'Nothing has been changed yet. The machine gets the devices in its settings now; the other steps are made each time that it starts, and undone in reverse when it stops, however it stops.',
  kept: 'Nothing has been changed yet. All steps are made now, and stay until you release the devices or the computer starts again.',
};

export function Review({ entry, name, what, notices, onBack, blocked, planned, found, mode, onMode, grant, onGrant, helper, onGive }: ReviewProps) {
  const { plan, problem, pending, changed } = planned;
  const permission = plan?.permission ?? 'none';
  const needs = plan !== null && plan.steps.some(({ what: kind }) => kind !== 'machine');
  const cannot = plan === null || pending || plan.problem !== undefined || (mode === 'kept' && (permission === 'helper' || permission === 'terminal'));
  const script = plan === null ? '' : [...plan.commands, ...(plan.undo.length > 0 ? ['# To undo it:', ...plan.undo.map((line) => `# ${line}`)] : [])].join('\n');
  const hint = plan === null || plan.problem !== undefined ? undefined
    : permission === 'helper' ? (mode === 'kept' ? 'The helper has to be set up first.' : 'The helper has to be set up before the machine starts.')
      : permission === 'password' && mode === 'start' && !grant ? 'Your password is asked for each time that the machine starts.'
        : undefined;
  return (
    <Step
      title="What will change on this computer" lede={ledes[mode]}
      left={<>
        <Button kind="plain" onPress={onBack}>Back</Button>
        {plan !== null && plan.commands.length > 0 && <CopyButton text={script}>Copy as commands</CopyButton>}
      </>}
      hint={hint}
      right={<Button kind="primary" className={styles.give} isDisabled={blocked || cannot} onPress={onGive}>{giveLabel(what, permission, mode, grant && mode === 'start')}</Button>}
    >
      {notices}
      {changed && <Notice gravity="care" alert title="The computer has changed since this plan was shown"><p>The steps below are made anew. Nothing has been done.</p></Notice>}
      {problem !== null && <ProblemNotice problem={problem} />}
      {plan?.problem !== undefined && <ProblemNotice problem={plan.problem} alert={false} />}
      {plan === null && problem === null && <div className={styles.waiting}><Waiting words="Making the plan" /></div>}
      {plan !== null && (
        <>
          <Warnings plan={plan} found={found} id={entry.id} />
          {permission === 'helper' && helper !== undefined && <HelperNotice helper={helper} />}
          {permission === 'terminal' && (
            <Notice gravity="info" title="Nobody can be asked for permission here">
              <p>These commands do the same in a terminal. With the devices set aside that way, the machine starts without asking.</p>
              {plan.commands.length > 0 && <Commands title="To set the devices aside:" commands={plan.commands} />}
              {plan.undo.length > 0 && <Commands title="To undo it:" commands={plan.undo} />}
            </Notice>
          )}
          {plan.problem === undefined && plan.steps.length > 0 && <StepList steps={plan.steps} />}
          {plan.problem === undefined && needs && found.on === 'host' && (
            <div className={styles.options}>
              <OneOfField
                label="When" value={mode} onChange={onMode}
                choices={[
                  { value: 'start', text: 'While the machine runs', help: 'The computer has the devices back whenever the machine is off.' },
                  { value: 'kept', text: 'Keep them for machines until I release them', help: 'They are set aside now, and no driver of the computer has them before you press “Release” on the Devices page.' },
                ]}
              />
              {mode === 'start' && permission === 'password' && (
                <div className={styles.grant}>
                  <span>Permission</span>
                  <Check isSelected={grant} onChange={onGrant}>
                    No password any more for {name} and these devices
                    <small>You allow it once, now. The Devices page lists it, and withdraws it.</small>
                  </Check>
                </div>
              )}
              {permission === 'granted' && <p className={styles.quiet}>{name} may have these devices without a password: you have allowed it. The Devices page lists it, and withdraws it.</p>}
            </div>
          )}
        </>
      )}
    </Step>
  );
}
