// The four steps, where one is, and the parts that every step has: its heading, which takes the focus, and the foot with its buttons.
import { useEffect, useRef } from 'react';
import type { ReactNode } from 'react';
import { Check } from 'lucide-react';
import { Button as AriaButton } from 'react-aria-components';
import { useKeptFocus } from '../../components/kept-focus.ts';
import { GIVE_STEPS } from '../../state/route.ts';
import type { GiveStep } from '../../state/route.ts';
import styles from './give.module.css';

const words = { choose: 'Choose', understand: 'Understand', review: 'Review', done: 'Done' } as const;

export interface StepsProps {
  current: GiveStep;
  /** The last one is over, too. */
  last: boolean;
  /** Goes back to a step; absent where there is no way back. */
  onGo?: (step: GiveStep) => void;
}

export function Steps({ current, last, onGo }: StepsProps) {
  const here = GIVE_STEPS.indexOf(current);
  return (
    <nav className={styles.steps} aria-label="Steps">
      <ol>
        {GIVE_STEPS.map((step, at) => {
          const over = at < here || (at === here && last);
          const inside = <><span className={styles.number} aria-hidden>{over ? <Check size={13} strokeWidth={2.5} /> : at + 1}</span>{words[step]}{over && <span className={styles.unseen}>, done</span>}</>;
          return (
            <li key={step} data-over={over || undefined} aria-current={at === here ? 'step' : undefined}>
              {at < here && onGo !== undefined ? <AriaButton onPress={() => onGo(step)}>{inside}</AriaButton> : <span>{inside}</span>}
            </li>
          );
        })}
      </ol>
    </nav>
  );
}

export interface StepProps {
  title: string;
  lede?: ReactNode;
  children: ReactNode;
  /** Buttons at the foot: the way back at the left, the way on at the right. */
  left?: ReactNode;
  right: ReactNode;
  /** Why the way on is closed, or what it means. */
  hint?: ReactNode;
}

export function Step({ title, lede, children, left, right, hint }: StepProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  const content = useKeptFocus<HTMLDivElement>();
  // Who hears the page begins at the step's name.
  useEffect(() => heading.current?.focus({ preventScroll: true }), []);
  return (
    <main className={styles.step}>
      <div ref={content} className={styles.content}>
        <div className={styles.head}>
          <h1 ref={heading} tabIndex={-1}>{title}</h1>
          {lede !== undefined && <p>{lede}</p>}
        </div>
        {children}
      </div>
      <footer className={styles.foot}>
        {left}
        <p className={styles.hint} role="status">{hint}</p>
        {right}
      </footer>
    </main>
  );
}
