// What stands where a machine's page would be, when the address names none, or one whose file cannot be read, or the library is not known yet.
import { Button } from '../components/button.tsx';
import { ProblemNotice } from '../components/notice.tsx';
import { Waiting } from '../components/waiting.tsx';
import { useFront } from '../state/front.ts';
import { go } from '../state/route.ts';
import { nameOf } from '../state/words.ts';
import styles from './no-machine.module.css';

export interface NoMachineProps {
  id: string;
  /** Where the person goes from here. */
  back: 'machines' | 'devices';
}

export function NoMachine({ id, back }: NoMachineProps) {
  const machines = useFront((front) => front.machines);
  const offline = useFront((front) => front.status === 'offline');
  const entry = machines?.[id];
  if (machines === null) {
    return (
      <div className={styles.page}>
        {offline ? <><h1>The machines are not known</h1><p>Vitrine’s own server does not answer.</p></> : <Waiting words="Reading the library" />}
      </div>
    );
  }
  return (
    <div className={styles.page}>
      <h1>{entry === undefined ? 'There is no such machine' : `The file of ${nameOf(entry)} cannot be read`}</h1>
      {entry?.damaged === undefined ? <p>It was removed, or the address is wrong.</p> : <ProblemNotice problem={entry.damaged.problem} />}
      <Button onPress={() => go({ page: back })}>{back === 'machines' ? 'Show all machines' : 'Show all devices'}</Button>
    </div>
  );
}
