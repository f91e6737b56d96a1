// One machine in the library: its screen, its name, its state in a word, and the one obvious button.
import { Ellipsis } from 'lucide-react';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import { Button, IconButton } from '../../components/button.tsx';
import { machineMenuItems } from '../../components/machine-menu.tsx';
import { Menu } from '../../components/menu.tsx';
import { StateSign } from '../../components/state-sign.tsx';
import { openDialog } from '../../state/dialogs.ts';
import { resumeMachine, startMachine, useJobs } from '../../state/machines.ts';
import { givenWords } from '../../state/machine-devices.ts';
import { go } from '../../state/route.ts';
import { failureWords, nameOf, shownState, specWords } from '../../state/words.ts';
import { useThumbnail } from './thumbnail.ts';
import styles from './library.module.css';

/** What a press on the card or Enter does: the machine's page, or why there is none. */
export function openCard(entry: LibraryEntry): void {
  if (entry.config === undefined) openDialog({ kind: 'damaged', id: entry.id });
  else go({ page: 'machine', id: entry.id, tab: 'screen' });
}

function ObviousButton({ entry, starting, offline }: { entry: LibraryEntry; starting: boolean; offline: boolean }) {
  const name = nameOf(entry);
  const { id } = entry;
  const open = (): void => openCard(entry);
  switch (shownState(entry)) {
    case 'off':
      return starting
        ? <Button aria-label={`Open ${name}`} onPress={open}>Open</Button>
        : <Button aria-label={`Start ${name}`} isDisabled={offline} onPress={() => void startMachine(id, name)}>Start</Button>;
    case 'paused': return <Button aria-label={`Resume ${name}`} isDisabled={offline} onPress={() => void resumeMachine(id, name)}>Resume</Button>;
    case 'failed':
    case 'damaged': return <Button aria-label={`Show why ${name} failed`} onPress={open}>Show why</Button>;
    default: return <Button aria-label={`Open ${name}`} onPress={open}>Open</Button>;
  }
}

function Glass({ entry }: { entry: LibraryEntry }) {
  const job = useJobs((jobs) => jobs.starting[entry.id]);
  const picture = useThumbnail(entry.id, entry.state, entry.config?.display.kind === 'canvas');
  const state = shownState(entry);
  const progress = job?.progress;
  let words = '';
  if (job !== undefined || state === 'starting') words = progress?.text ?? 'Starting';
  else if (state === 'off') words = 'Off';
  else if (state === 'failed') words = failureWords(entry);
  else if (state === 'damaged') words = 'Its file cannot be read';
  else if (entry.config?.display.kind === 'none') words = 'No screen';
  const share = progress?.total === undefined || progress.total === 0 ? null : Math.min(1, progress.done / progress.total);
  return (
    <div className={styles.glass} data-dim={state === 'paused' || state === 'failed' || undefined}>
      {picture !== null && <img src={picture} alt="" draggable={false} />}
      {words !== '' && <p>{words}</p>}
      {share !== null && <progress className={styles.progress} value={share} aria-label={words} />}
    </div>
  );
}

export function Card({ entry, offline }: { entry: LibraryEntry; offline: boolean }) {
  const starting = useJobs((jobs) => jobs.starting[entry.id] !== undefined);
  const name = nameOf(entry);
  const state = shownState(entry);
  return (
    <article className={styles.card} data-machine={entry.id}>
      <Glass entry={entry} />
      <div className={styles.foot}>
        <div className={styles.words}>
          <h2 title={name}>{name}</h2>
          <p><StateSign state={starting && state === 'off' ? 'starting' : state} /><span>{[specWords(entry), givenWords(entry)].filter((words) => words !== '').join(' · ')}</span></p>
        </div>
        <ObviousButton entry={entry} starting={starting} offline={offline} />
        <Menu label={`More for ${name}`} trigger={<IconButton label={`More for ${name}`} isDisabled={offline || state === 'damaged'}><Ellipsis size={18} aria-hidden /></IconButton>}>
          {machineMenuItems({ entry, place: 'card' })}
        </Menu>
      </div>
    </article>
  );
}
