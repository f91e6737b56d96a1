// Makes a machine, or changes one that is off: what it starts, and how much of this computer it gets.
import { useState } from 'react';
import { Form } from 'react-aria-components';
import type { Problem } from '../../../shared/errors.ts';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import { bridge } from '../../client/bridge.ts';
import { Button } from '../../components/button.tsx';
import { Dialog } from '../../components/dialog.tsx';
import { TextField } from '../../components/field.tsx';
import { ProblemNotice } from '../../components/notice.tsx';
import { SelectField } from '../../components/select.tsx';
import { closeDialog, openDialog } from '../../state/dialogs.ts';
import { problemOf } from '../../state/front.ts';
import { listWords } from '../../state/give-words.ts';
import { machineDevices } from '../../state/machine-devices.ts';
import { go } from '../../state/route.ts';
import { createMachine, updateMachine } from '../../state/machines.ts';
import { nameOf } from '../../state/words.ts';
import { check, emptyForm, formOf, NO_SCREEN, screenChoices, toChanges, toNewMachine } from './machine-form.ts';
import type { MachineForm } from './machine-form.ts';
import styles from './machine-dialog.module.css';

export interface MachineDialogProps {
  /** The machine to change; absent for a new one. */
  entry?: LibraryEntry;
  onClose: () => void;
}

const FORM = 'machine-form';
const RESETS = [{ value: 'restart', text: 'Start again' }, { value: 'stop', text: 'Turn off' }] as const;

/** The devices of the computer that it has, which have ways of their own. */
function DevicesLine({ entry }: { entry: LibraryEntry }) {
  const devices = machineDevices(entry, null);
  return (
    <section className={styles.devices} aria-labelledby="machine-form-devices">
      <div>
        <h3 id="machine-form-devices">Devices of this computer</h3>
        <p>{devices.length === 0 ? 'None.' : listWords(devices.map(({ name }) => name))}</p>
      </div>
      {devices.length > 0 && <Button onPress={() => openDialog({ kind: 'devices', id: entry.id })}>Show them</Button>}
      <Button onPress={() => { closeDialog(); go({ page: 'give', id: entry.id, step: 'choose', groups: [] }); }}>Give a device…</Button>
    </section>
  );
}

export function MachineDialog({ entry, onClose }: MachineDialogProps) {
  const [form, setForm] = useState<MachineForm>(() => (entry?.config === undefined ? emptyForm : formOf(entry.config)));
  const [touched, setTouched] = useState<Partial<Record<keyof MachineForm, boolean>>>({});
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const errors = check(form);
  const editing = entry !== undefined;

  const field = (name: Exclude<keyof MachineForm, 'onReset'>) => ({
    value: form[name],
    onChange: (value: string): void => {
      setForm((old) => ({ ...old, [name]: value }));
      setTouched((old) => ({ ...old, [name]: true }));
    },
    error: touched[name] === true ? errors[name] : undefined,
  });

  const choose = (name: 'kernel' | 'initrd', title: string) => (bridge.pickFile === undefined ? undefined : (
    <Button onPress={() => {
      void bridge.pickFile?.(title).then((path) => { if (path !== null) field(name).onChange(path); });
    }}>Choose file</Button>
  ));

  const save = async (): Promise<void> => {
    setTouched({ name: true, kernel: true, initrd: true, append: true, memory: true, cpus: true });
    if (Object.keys(errors).length > 0 || busy) return;
    setBusy(true);
    setProblem(null);
    try {
      if (editing) await updateMachine(entry.id, toChanges(form));
      else await createMachine(toNewMachine(form));
      onClose();
    } catch (thrown) {
      setProblem(problemOf(thrown, editing ? 'save the settings' : 'create the machine', form.name));
      setBusy(false);
    }
  };

  const title = editing ? `Settings of ${nameOf(entry)}` : 'New machine';
  return (
    <Dialog
      title={title} onClose={onClose}
      lede={editing ? 'They hold from the next start.' : 'Starts a kernel directly: a Linux kernel (bzImage), or an ELF kernel for PVH or Multiboot.'}
      foot={<>
        <Button kind="plain" onPress={onClose}>Cancel</Button>
        <Button kind="primary" type="submit" form={FORM} isPending={busy}>{editing ? 'Save settings' : 'Create machine'}</Button>
      </>}
    >
      <Form id={FORM} className={styles.form} onSubmit={(event) => { event.preventDefault(); void save(); }}>
        {problem !== null && <ProblemNotice problem={problem} />}
        <TextField label="Name" autoFocus {...field('name')} />
        <TextField label="Kernel" mono placeholder="/boot/vmlinuz" {...field('kernel')} after={choose('kernel', 'Choose a kernel')} />
        <TextField label="Initrd" aside="optional" mono placeholder="/boot/initrd.img" {...field('initrd')} after={choose('initrd', 'Choose an initrd')} />
        <TextField label="Command line" aside="optional" mono {...field('append')} help="Handed to the kernel as it is." />
        <div className={styles.pair}>
          <TextField label="Memory" {...field('memory')} help="Such as 512 MiB or 2 GiB." />
          <TextField label="CPUs" inputMode="numeric" {...field('cpus')} help="1 to 32." />
        </div>
        <div className={styles.pair}>
          <SelectField
            label="Screen" choices={screenChoices(entry?.config === undefined ? emptyForm.screen : formOf(entry.config).screen)} {...field('screen')}
            help={form.screen === NO_SCREEN ? 'The serial console alone.' : 'Its size at the start.'}
          />
          <SelectField label="When the guest restarts" choices={RESETS} value={form.onReset} onChange={(onReset) => setForm((old) => ({ ...old, onReset }))} />
        </div>
        {editing && <DevicesLine entry={entry} />}
      </Form>
    </Dialog>
  );
}
