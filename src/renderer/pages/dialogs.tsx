// The dialog that is open, if one is: forms, questions before something is cut or deleted, the log, the shortcuts.
import { useEffect } from 'react';
import { Button } from '../components/button.tsx';
import { Confirm, Dialog } from '../components/dialog.tsx';
import { Notice } from '../components/notice.tsx';
import { closeDialog, useDialogs } from '../state/dialogs.ts';
import { useFront } from '../state/front.ts';
import { forceOff, resetMachine } from '../state/machines.ts';
import { asSentence, nameOf } from '../state/words.ts';
import { ChooseMachine } from './devices/choose-machine.tsx';
import { MachineDialog } from './library/machine-dialog.tsx';
import { RemoveDialog } from './library/remove-dialog.tsx';
import { MachineDevices } from './machine/machine-devices.tsx';
import { LogText } from './machine/log-text.tsx';
import { Shortcuts } from './shortcuts.tsx';
import styles from './dialogs.module.css';

export function Dialogs() {
  const open = useDialogs((dialogs) => dialogs.open);
  const entry = useFront((front) => (open !== null && 'id' in open ? front.machines?.[open.id] : undefined));
  const gone = open !== null && 'id' in open && entry === undefined;
  useEffect(() => { if (gone) closeDialog(); }, [gone]);

  if (open === null) return null;
  if (open.kind === 'new') return <MachineDialog onClose={closeDialog} />;
  if (open.kind === 'give') return <ChooseMachine group={open.group} name={open.name} onClose={closeDialog} />;
  if (open.kind === 'shortcuts') return <Shortcuts onClose={closeDialog} />;
  if (entry === undefined) return null;
  const { id } = entry;
  const name = nameOf(entry);
  switch (open.kind) {
    case 'edit': return <MachineDialog key={id} entry={entry} onClose={closeDialog} />;
    case 'devices': return <MachineDevices key={id} entry={entry} onClose={closeDialog} />;
    case 'force-off': return (
      <Confirm title={`Force ${name} off`} action="Force off" onClose={closeDialog} onConfirm={() => void forceOff(id, name)}>
        <p>The power is cut at once. What the guest has not saved is lost. “Shut down” asks the guest instead.</p>
      </Confirm>
    );
    case 'reset': return (
      <Confirm title={`Reset ${name}`} action="Reset" onClose={closeDialog} onConfirm={() => void resetMachine(id, name)}>
        <p>The guest begins again at once, as with the button on a computer’s case. What it has not saved is lost.</p>
      </Confirm>
    );
    case 'remove': return <RemoveDialog key={id} entry={entry} onClose={closeDialog} />;
    case 'log': return (
      <Dialog title={`Log of ${name}`} onClose={closeDialog} foot={<Button onPress={closeDialog}>Close</Button>}>
        <div className={styles.log}><LogText id={id} /></div>
      </Dialog>
    );
    case 'damaged': return (
      <Dialog title={`The file of ${name} cannot be read`} onClose={closeDialog} foot={<Button onPress={closeDialog}>Close</Button>}>
        <div className={styles.stack}>
          <code className={styles.path}>{entry.damaged?.path ?? id}</code>
          {entry.damaged !== undefined && (
            <Notice gravity="stop" title={asSentence(entry.damaged.problem.why)}>
              {entry.damaged.problem.remedy !== '' && <p>{entry.damaged.problem.remedy}</p>}
            </Notice>
          )}
          <p>Every other machine works as usual.</p>
        </div>
      </Dialog>
    );
  }
}
