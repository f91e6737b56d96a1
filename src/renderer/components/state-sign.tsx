// A machine's state: a sign and the plain word, never one without the other.
import { Circle, CircleDot, FileWarning, LoaderCircle, Pause, Power, TriangleAlert } from 'lucide-react';
import { stateWords } from '../state/words.ts';
import type { ShownState } from '../state/words.ts';
import styles from './state-sign.module.css';

const signs = {
  off: Circle, starting: LoaderCircle, running: CircleDot, paused: Pause, stopping: Power, failed: TriangleAlert, damaged: FileWarning,
} as const;

export function StateSign({ state }: { state: ShownState }) {
  const Sign = signs[state];
  return (
    <span className={`${styles.state} ${styles[state]}`} data-state={state}>
      <Sign size={13} strokeWidth={2.25} aria-hidden />{stateWords[state]}
    </span>
  );
}
