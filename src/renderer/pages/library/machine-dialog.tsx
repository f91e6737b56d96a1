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
import { problemOf } from '../../state/front.ts';
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
      </Form>
    </Dialog>
  );
}
