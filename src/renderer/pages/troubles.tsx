// What went wrong, and what was done, in the lower corner: problems stay until they are dismissed, a done thing leaves by itself.
import { Check, X } from 'lucide-react';
import { Button, IconButton } from '../components/button.tsx';
import { ProblemNotice } from '../components/notice.tsx';
import { go } from '../state/route.ts';
import { dismissNote, dismissTrouble, useTroubles } from '../state/troubles.ts';
import styles from './troubles.module.css';

export function Troubles() {
  const list = useTroubles((troubles) => troubles.list);
  const note = useTroubles((troubles) => troubles.note);
  if (list.length === 0 && note === null) return null;
  return (
    <aside className={styles.corner} aria-label="Messages">
      {list.map(({ key, problem, machineId }) => (
        <div key={key} className={styles.one}>
          <ProblemNotice
            narrow problem={problem} onDismiss={() => dismissTrouble(key)}
            actions={machineId === undefined ? undefined : <Button onPress={() => { dismissTrouble(key); go({ page: 'machine', id: machineId, tab: 'log' }); }}>Show the log</Button>}
          />
        </div>
      ))}
      {note !== null && (
        <div key={note.key} className={styles.note} role="status">
          <Check size={16} aria-hidden /><span>{note.text}</span>
          <IconButton label="Dismiss" onPress={dismissNote}><X size={16} aria-hidden /></IconButton>
        </div>
      )}
    </aside>
  );
}
