// What stands over the screen when the guest does not run: why, and what to do about it.
import { CircleSlash, Keyboard, MonitorOff, Pause, Play, TriangleAlert, Unplug } from 'lucide-react';
import type { ReactNode } from 'react';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import type { MachineState } from '../../../shared/protocol/machine.ts';
import { Button } from '../../components/button.tsx';
import { Waiting } from '../../components/waiting.tsx';
import { openDialog } from '../../state/dialogs.ts';
import { listWords } from '../../state/give-words.ts';
import { machineDevices } from '../../state/machine-devices.ts';
import { go } from '../../state/route.ts';
import { resumeMachine, startMachine, useJobs } from '../../state/machines.ts';
import { asSentence, failureWords, nameOf, outcomeWords } from '../../state/words.ts';
import styles from './screen.module.css';

interface MessageProps {
  icon?: ReactNode;
  title: string;
  children?: ReactNode;
  buttons?: ReactNode;
  alert?: boolean;
}

function Message({ icon, title, children, buttons, alert = false }: MessageProps) {
  return (
    <div className={styles.message} role={alert ? 'alert' : 'status'}>
      {icon}
      <h2>{title}</h2>
      {children}
      {buttons !== undefined && <div className={styles.buttons}>{buttons}</div>}
    </div>
  );
}

/** What a problem is about, when it is not this machine itself: a kernel's path, a device. */
function isWorthNaming(on: string, entry: LibraryEntry): boolean {
  return on !== '' && on !== entry.id && on !== nameOf(entry) && !on.endsWith(`/machines/${entry.id}`);
}

/**
 * In the place of a picture that is not here: on the monitor of a card that the machine was given, or nowhere. The whole pane takes keyboard
 * and pointer, and what is said lets every click through to it.
 */
function InputOnly({ entry, blind, captured, onTake }: { entry: LibraryEntry; blind: boolean; captured: boolean; onTake: () => void }) {
  const has = listWords(machineDevices(entry, null).map(({ name }) => name));
  if (captured) {
    return (
      <div className={styles.through} data-testid="input-only">
        <Message icon={<Keyboard size={28} strokeWidth={1.75} aria-hidden />} title={`${nameOf(entry)} has the keyboard and the pointer`}>
          <p>Every key and every movement is the guest’s.</p>
          <p>Press and let go <kbd>Ctrl</kbd>+<kbd>Alt</kbd> to have them back.</p>
        </Message>
      </div>
    );
  }
  return (
    <div className={styles.through} data-testid="input-only">
      <Message
        icon={<MonitorOff size={28} strokeWidth={1.75} aria-hidden />} title={blind ? 'This machine has no screen here' : 'Nothing on this screen yet'}
        buttons={<>
          <Button onPress={() => go({ page: 'machine', id: entry.id, tab: 'console' })}>Open the console</Button>
          <Button kind="primary" onPress={onTake}>Give it the keyboard and the pointer</Button>
        </>}
      >
        <p>{has === '' ? 'What it writes to its serial port is in the console.' : `It has ${has}: its picture may be on the monitor that is plugged in there.`}</p>
        <p>Click anywhere here to type and point there; Ctrl+Alt gives both back.</p>
      </Message>
    </div>
  );
}

export interface ReasonProps {
  entry: LibraryEntry;
  state: LibraryEntry['state'];
  machine: MachineState | null;
  link: 'connecting' | 'online' | 'lost';
  offline: boolean;
  /** Keyboard and pointer are the guest's. */
  captured: boolean;
  /** Gives them to it. */
  onTake: () => void;
}

/** Whether anything stands over the screen, and what. */
export function useReason({ entry, state, machine, link, offline, captured, onTake }: ReasonProps): ReactNode | undefined {
  const job = useJobs((jobs) => jobs.starting[entry.id]);
  const { id } = entry;
  const name = nameOf(entry);
  const start = (words: string, kind: 'primary' | 'ordinary' = 'primary'): ReactNode => (
    <Button kind={kind} isDisabled={offline} onPress={() => void startMachine(id, name)}>{words}</Button>
  );
  const log = <Button onPress={() => go({ page: 'machine', id, tab: 'log' })}>Show the log</Button>;

  if (job !== undefined || state === 'starting') {
    const progress = job?.progress;
    const share = progress?.total === undefined || progress.total === 0 ? null : Math.min(1, progress.done / progress.total);
    return (
      <Message title="Starting the machine" buttons={job === undefined ? undefined : <Button onPress={job.cancel}>Cancel the start</Button>}>
        <p>{progress?.text ?? ' '}</p>
        {share === null ? <Waiting words="" /> : <progress className={styles.progress} value={share} aria-label="Progress of the start" />}
      </Message>
    );
  }
  if (state === 'failed') {
    const problem = entry.problem ?? entry.lastOutcome?.problem;
    return (
      <Message alert icon={<TriangleAlert size={28} strokeWidth={1.75} aria-hidden />} title={problem === undefined ? 'This machine has failed' : `Cannot ${problem.attempted}`} buttons={<>{log}{start('Start again')}</>}>
        {problem === undefined ? <p>{failureWords(entry)}</p> : (
          <>
            {isWorthNaming(problem.on, entry) && <code>{problem.on}</code>}
            <p>{asSentence(problem.why)}</p>
            {problem.remedy !== '' && <p>{problem.remedy}</p>}
          </>
        )}
      </Message>
    );
  }
  if (state === 'off') {
    const outcome = entry.lastOutcome;
    const devices = machineDevices(entry, null);
    return (
      <Message icon={<CircleSlash size={28} strokeWidth={1.75} aria-hidden />} title="This machine is off" buttons={<>{devices.length > 0 && <Button onPress={() => openDialog({ kind: 'devices', id })}>Show its devices</Button>}{start('Start')}</>}>
        {outcome !== undefined && <p>{outcomeWords(outcome)}</p>}
        {devices.length > 0 && (
          <>
            <p>It has {listWords(devices.map((each) => each.name))} of this computer.</p>
            {(entry.deviceTroubles ?? []).map((trouble) => <p key={trouble.address} role="alert" className={styles.trouble}><TriangleAlert size={16} aria-hidden /><span>{trouble.sentence}</span></p>)}
          </>
        )}
      </Message>
    );
  }
  if (offline || link === 'lost') {
    return (
      <Message icon={<Unplug size={28} strokeWidth={1.75} aria-hidden />} title="Connection lost">
        <p>{offline ? 'Vitrine’s own server does not answer. The machine goes on running; this window tries again by itself.' : 'The machine does not answer. This window tries again by itself.'}</p>
      </Message>
    );
  }
  if (state === 'paused') {
    return (
      <Message icon={<Pause size={28} strokeWidth={1.75} aria-hidden />} title="This machine is paused" buttons={<Button kind="primary" onPress={() => void resumeMachine(id, name)}><Play size={16} aria-hidden />Resume</Button>}>
        <p>The guest’s time stands still. It goes on where it was.</p>
      </Message>
    );
  }
  if (link === 'connecting') return <Waiting words="Connecting to the machine" />;
  const blind = machine?.display === 'none' || entry.config?.display.kind === 'none';
  const has = machineDevices(entry, null);
  if (blind || (has.length > 0 && machine !== null && machine.screen === undefined && state === 'running')) {
    return <InputOnly entry={entry} blind={blind} captured={captured} onTake={onTake} />;
  }
  if (machine !== null && machine.screen === undefined && state === 'running') {
    return <Message title="Nothing on the screen yet"><p>The guest has not set a picture.</p></Message>;
  }
  return undefined;
}
