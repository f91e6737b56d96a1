// A verdict: sign, word and tint, never one alone.
import { CircleCheck, CircleX, TriangleAlert } from 'lucide-react';
import type { Verdict } from '../../shared/host-devices.ts';
import styles from './verdict-sign.module.css';

const shown = {
  ready: { sign: CircleCheck, word: 'Ready', tint: 'ok' },
  'with-care': { sign: TriangleAlert, word: 'With care', tint: 'care' },
  'not-possible': { sign: CircleX, word: 'Not possible', tint: 'stop' },
} as const;

export function VerdictSign({ verdict }: { verdict: Verdict }) {
  const { sign: Sign, word, tint } = shown[verdict];
  return <span className={`${styles.verdict} ${styles[tint]}`} data-verdict={verdict}><Sign size={13} strokeWidth={2.25} aria-hidden />{word}</span>;
}
