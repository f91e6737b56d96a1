// A notice: what is so, why, and what to do, with the sign and the tint of its gravity.
import type { ReactNode } from 'react';
import { CircleCheck, Info, OctagonAlert, TriangleAlert, X } from 'lucide-react';
import type { Problem } from '../../shared/errors.ts';
import { IconButton } from './button.tsx';
import { asSentence } from '../state/words.ts';
import styles from './notice.module.css';

export type Gravity = 'info' | 'ok' | 'care' | 'stop';

const signs = { info: Info, ok: CircleCheck, care: TriangleAlert, stop: OctagonAlert } as const;

export interface NoticeProps {
  gravity: Gravity;
  title: string;
  children?: ReactNode;
  actions?: ReactNode;
  /** Actions go below the words, where there is little width. */
  narrow?: boolean;
  /** Takes the notice away; a button in the upper corner. */
  onDismiss?: () => void;
  /** Read aloud at once when it appears. */
  alert?: boolean;
}

export function Notice({ gravity, title, children, actions, narrow = false, onDismiss, alert = false }: NoticeProps) {
  const Sign = signs[gravity];
  return (
    <div className={`${styles.notice} ${styles[gravity]} ${narrow ? styles.narrow : ''}`} role={alert ? 'alert' : 'status'}>
      <Sign size={18} aria-hidden />
      <div className={styles.words}>
        <p className={styles.title}>{title}</p>
        {children}
      </div>
      {actions !== undefined && <div className={styles.actions}>{actions}</div>}
      {onDismiss !== undefined && <IconButton label="Dismiss" className={styles.dismiss} onPress={onDismiss}><X size={16} aria-hidden /></IconButton>}
    </div>
  );
}

/** "Cannot start the machine (Try Linux)": the first line of a problem. */
export function problemTitle(problem: Problem): string {
  return problem.on === '' ? `Cannot ${problem.attempted}` : `Cannot ${problem.attempted}: ${problem.on}`;
}

export interface ProblemNoticeProps extends Pick<NoticeProps, 'actions' | 'alert' | 'narrow' | 'onDismiss'> {
  problem: Problem;
}

export function ProblemNotice({ problem, alert = true, ...rest }: ProblemNoticeProps) {
  return (
    <Notice gravity="stop" title={problemTitle(problem)} alert={alert} {...rest}>
      <p>{asSentence(problem.why)}</p>
      {problem.remedy !== '' && <p>{problem.remedy}</p>}
    </Notice>
  );
}
