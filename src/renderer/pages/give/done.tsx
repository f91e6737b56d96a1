// The last step: the changes as they are made, then how it ended: given, with what to do next; failed, with what was undone; cancelled.
import { CircleCheck, CircleX, LoaderCircle } from 'lucide-react';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import type { Leases } from '../../../shared/passthrough.ts';
import { Button } from '../../components/button.tsx';
import { Notice, ProblemNotice } from '../../components/notice.tsx';
import { Technical } from '../../components/technical.tsx';
import type { Giving } from '../../state/give.ts';
import { useKnownLeases } from '../../state/leases.ts';
import { startMachine } from '../../state/machines.ts';
import { go } from '../../state/route.ts';
import { Step } from './steps.tsx';
import styles from './give.module.css';

export interface DoneProps {
  entry: LibraryEntry;
  name: string;
  giving: Giving;
  /** Back to the plan. */
  onReview: () => void;
  onLeave: () => void;
}

function Progress({ giving }: { giving: Giving }) {
  const { lines, state, progress } = giving;
  const busy = state === 'giving';
  const shown = lines.length === 0 && busy ? ['Beginning'] : lines;
  const share = progress?.total === undefined || progress.total === 0 ? null : Math.min(1, progress.done / progress.total);
  if (shown.length === 0) return null;
  return (
    <>
      <ol className={styles.progress} aria-label="Progress" aria-live="polite">
        {shown.map((line, at) => {
          const working = busy && at === shown.length - 1;
          // What was at work when it ended did not come true.
          const broken = !busy && state !== 'given' && at === shown.length - 1;
          const Sign = working ? LoaderCircle : broken ? CircleX : CircleCheck;
          return <li key={`${at} ${line}`} data-working={working || undefined} data-broken={broken || undefined}><Sign size={16} aria-hidden /><Technical>{line}</Technical></li>;
        })}
      </ol>
      {busy && share !== null && <progress className={styles.share} value={share} aria-label="How far it is" />}
    </>
  );
}

const next = {
  start: (name: string, one: boolean) => `When ${name} starts, the computer lets go of ${one ? 'it' : 'them'}; when it stops, the computer has ${one ? 'it' : 'them'} back.`,
  kept: (name: string, one: boolean) => `${one ? 'It is' : 'They are'} set aside for ${name} until you release ${one ? 'it' : 'them'} on the Devices page, or the computer starts again.`,
} as const;

/** The person said no, or there was nobody to ask: nothing has been touched. */
const UNTOUCHED = ['lease-dismissed', 'lease-denied', 'lease-no-agent', 'lease-no-pkexec', 'helper-missing'];

function afterwards({ problem, addresses }: Giving, leases: Leases | null): string {
  const left = leases?.given.some(({ address, how }) => how !== 'reserved' && addresses.includes(address)) === true;
  return left ? 'Not all of it could be undone: the Devices page shows what is still set aside, and releases it.'
    : problem !== undefined && UNTOUCHED.includes(problem.code) ? 'Nothing was changed.' : 'What had been changed is undone: the computer is as it was.';
}

export function Done({ entry, name, giving, onReview, onLeave }: DoneProps) {
  const { what, state, mode, problem, granted, cancel } = giving;
  const { id } = entry;
  const leases = useKnownLeases();
  const start = (): void => {
    onLeave();
    go({ page: 'machine', id, tab: 'screen' });
    void startMachine(id, name);
  };
  switch (state) {
    case 'giving': return (
      <Step key="busy" title={`Giving ${what} to ${name}`} lede="Each change is written down before it is made, so that it can be undone whatever happens." right={<Button onPress={cancel}>Cancel and undo</Button>}>
        <Progress giving={giving} />
      </Step>
    );
    case 'given': return (
      <Step
        key="given" title={`${name} has ${what}`} lede={next[mode](name, giving.addresses.length === 1)}
        left={<Button kind="plain" onPress={onLeave}>Close</Button>}
        right={<>
          <Button onPress={() => go({ page: 'devices' })}>Show the devices</Button>
          {entry.state === 'off' || entry.state === 'failed' ? <Button kind="primary" onPress={start}>Start {name}</Button> : null}
        </>}
      >
        {granted && <Notice gravity="ok" title="No password is needed for it any more"><p>The Devices page lists what is allowed, and withdraws it.</p></Notice>}
        {problem !== undefined && <ProblemNotice problem={problem} />}
        <Progress giving={giving} />
      </Step>
    );
    case 'cancelled':
    case 'failed': return (
      <Step
        key="not" title={state === 'cancelled' ? 'Cancelled' : `${what} could not be given`}
        lede={afterwards(giving, leases)}
        left={<Button kind="plain" onPress={onLeave}>Close</Button>}
        right={<Button kind="primary" onPress={onReview}>Back to the plan</Button>}
      >
        {problem !== undefined && <ProblemNotice problem={problem} />}
        <Progress giving={giving} />
      </Step>
    );
  }
}
