// A notice: what is so, why, and what to do, with the sign and the tint of its gravity.
import type { ReactNode } from 'react';
import { CircleCheck, Info, OctagonAlert, TriangleAlert } from 'lucide-react';
import type { Problem } from '../../shared/errors.ts';
import styles from './notice.module.css';

export type Gravity = 'info' | 'ok' | 'care' | 'stop';

const signs = { info: Info, ok: CircleCheck, care: TriangleAlert, stop: OctagonAlert } as const;

export interface NoticeProps {
  gravity: Gravity;
  title: string;
  children?: ReactNode;
  actions?: ReactNode;
  /** Read aloud at once when it appears. */
  alert?: boolean;
}

export function Notice({ gravity, title, children, actions, alert = false }: NoticeProps) {
  const Sign = signs[gravity];
  return (
    <div className={`${styles.notice} ${styles[gravity]}`} role={alert ? 'alert' : 'status'}>
      <Sign size={18} aria-hidden />
      <div className={styles.words}>
        <h3>{title}</h3>
        {children}
      </div>
      {actions !== undefined && <div className={styles.actions}>{actions}</div>}
    </div>
  );
}

/** "Cannot start the machine (Try Linux)": the first line of a problem. */
export function problemTitle(problem: Problem): string {
  return problem.on === '' ? `Cannot ${problem.attempted}` : `Cannot ${problem.attempted}: ${problem.on}`;
}

export function ProblemNotice({ problem, actions, alert = true }: { problem: Problem; actions?: ReactNode; alert?: boolean }) {
  return (
    <Notice gravity="stop" title={problemTitle(problem)} actions={actions} alert={alert}>
      <p>{problem.why}</p>
      {problem.remedy !== '' && <p>{problem.remedy}</p>}
    </Notice>
  );
}
