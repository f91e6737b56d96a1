// Giving devices of the computer to a machine, in four steps: choose, understand, review, done. Nothing is changed before the last one, and
// the address has the step and what is chosen, so that "back" works. While one looks, hardware that changes changes what is shown.
import { useEffect, useState } from 'react';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import type { GiveMode } from '../../../shared/passthrough.ts';
import { Button } from '../../components/button.tsx';
import { Notice, ProblemNotice } from '../../components/notice.tsx';
import { Waiting } from '../../components/waiting.tsx';
import { framesOf } from '../../state/device-frames.ts';
import { forgetGiving, give, useDevicesFor, useGiving, usePlan } from '../../state/give.ts';
import { useFront } from '../../state/front.ts';
import { chosenWords } from '../../state/give-words.ts';
import { useLeases } from '../../state/leases.ts';
import { isLive } from '../../state/machines.ts';
import { beforeGiving, go, goInstead } from '../../state/route.ts';
import type { GiveStep } from '../../state/route.ts';
import { nameOf } from '../../state/words.ts';
import { typingInto } from '../commands.ts';
import { NoMachine } from '../no-machine.tsx';
import { Choose } from './choose.tsx';
import { Done } from './done.tsx';
import { Review } from './review.tsx';
import { Steps } from './steps.tsx';
import { Understand } from './understand.tsx';
import styles from './give.module.css';

export interface GivePageProps {
  id: string;
  step: GiveStep;
  groups: string[];
}

export function GivePage({ id, step, groups }: GivePageProps) {
  const entry = useFront((front) => front.machines?.[id]);
  if (entry?.config === undefined) return <main className={styles.whole}><NoMachine id={id} back="devices" /></main>;
  return <Wizard key={id} entry={entry} step={step} groups={groups} />;
}

function Wizard({ entry, step, groups }: { entry: LibraryEntry; step: GiveStep; groups: string[] }) {
  const { id } = entry;
  const name = nameOf(entry);
  const leases = useLeases();
  const offline = useFront((front) => front.status === 'offline');
  const { found, problem } = useDevicesFor(id);
  const giving = useGiving((state) => state.giving[id]);
  const [mode, setMode] = useState<GiveMode>('start');
  const [grant, setGrant] = useState(false);
  const [files, setFiles] = useState<Record<string, string>>({});

  const frames = found === null ? [] : framesOf(found).frames;
  const chosen = frames.filter(({ group }) => groups.includes(group.key));
  const gone = found === null ? [] : groups.filter((key) => !chosen.some(({ group }) => group.key === key));
  const what = chosenWords(chosen);
  const addresses = new Set(chosen.flatMap(({ devices }) => devices.map(({ address }) => address)));
  const roms = Object.fromEntries(Object.entries(files).filter(([address]) => addresses.has(address)).map(([address, file]) => [address, { file }]));
  const keys = chosen.map(({ group }) => group.key);
  const choice = { id, groups: keys, mode, roms };
  // Without what it did there is nothing to show: a page that was opened anew begins with the plan.
  const shown: GiveStep = step === 'done' && giving === undefined ? 'review' : step;
  const planned = usePlan(shown === 'review' && keys.length > 0 ? choice : null, found);

  const at = (next: GiveStep): void => go({ page: 'give', id, step: next, groups });
  const choose = (next: string[]): void => goInstead({ page: 'give', id, step, groups: next });
  const leave = (): void => {
    if (giving !== undefined && giving.state !== 'giving') forgetGiving(id);
    go(beforeGiving(id));
  };
  const order: GiveStep[] = ['choose', 'understand', 'review'];
  const back = (): void => {
    const before = order[order.indexOf(shown) - 1];
    if (before === undefined) leave();
    else at(before);
  };
  const doIt = async (): Promise<void> => {
    if (planned.plan === null) return;
    at('done');
    if ((await give(choice, planned.plan, what, grant && mode === 'start')) === 'changed') {
      planned.again(true);
      goInstead({ page: 'give', id, step: 'review', groups });
    }
  };

  useEffect(() => {
    document.title = `Give a device to ${name} – Vitrine`;
    return () => { document.title = 'Vitrine'; };
  }, [name]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== 'Escape' || event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || typingInto(event.target) || shown === 'done') return;
      event.preventDefault();
      back();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  });

  const notices = (
    <>
      {found?.on === 'lab' && <Notice gravity="info" title="These are the devices of the lab"><p>The lab is an emulated computer: what is given there changes nothing on this one.</p></Notice>}
      {problem !== null && <ProblemNotice problem={problem} />}
      {isLive(entry.state) && shown !== 'done' && <Notice gravity="care" title={`${name} runs`}><p>A device is given to a machine that is off. Shut it down first; this page notices.</p></Notice>}
      {gone.length > 0 && shown !== 'done' && (
        <Notice gravity="care" alert title="Something that was chosen is not there any more" actions={<Button onPress={() => choose(keys)}>Go on without it</Button>}><p>It was taken out, or the computer shows it in another group now.</p></Notice>
      )}
    </>
  );
  const common = { entry, name, what, notices, onBack: back, blocked: offline || isLive(entry.state) || gone.length > 0 };
  return (
    <div className={styles.page} data-testid="give">
      <header className={styles.bar}>
        <h2>Give a device to {name}</h2>
        {shown !== 'done' && <Button kind="plain" onPress={leave}>Cancel</Button>}
      </header>
      <div className={styles.body}>
        <Steps current={shown} last={giving?.state === 'given'} onGo={shown === 'done' ? undefined : at} />
        {found === null || found.state === 'reading'
          ? <div className={styles.waiting}>{problem === null ? !offline && <Waiting words="Reading the devices" /> : <ProblemNotice problem={problem} />}</div>
          : shown === 'choose' ? <Choose {...common} found={found} groups={keys} onChoose={choose} onNext={() => at('understand')} />
            : shown === 'understand' ? <Understand {...common} found={found} chosen={chosen} helper={leases?.helper} rom={{ files, onFile: (address, file) => setFiles(({ [address]: _old, ...rest }) => (file === undefined ? rest : { ...rest, [address]: file })) }} onLeaveOut={(key) => choose(keys.filter((each) => each !== key))} onNext={() => at('review')} />
              : shown === 'review' ? <Review {...common} planned={planned} found={found} mode={mode} onMode={setMode} grant={grant} onGrant={setGrant} helper={leases?.helper} onGive={() => void doIt()} />
                : giving !== undefined && <Done entry={entry} name={name} giving={giving} onReview={() => { forgetGiving(id); goInstead({ page: 'give', id, step: 'review', groups }); }} onLeave={leave} />}
      </div>
    </div>
  );
}
