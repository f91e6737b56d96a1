// A dialog with a form for one device: what is wrong stands at its field once somebody has typed there or pressed the button; what the computer refuses
// stands at the path's field, or above the form.
import { useState } from 'react';
import type { ReactNode } from 'react';
import { Form } from 'react-aria-components';
import type { Problem } from '../../../../shared/errors.ts';
import { Button } from '../../../components/button.tsx';
import { Dialog } from '../../../components/dialog.tsx';
import { ProblemNotice } from '../../../components/notice.tsx';
import { problemOf } from '../../../state/front.ts';
import { atPath, fieldWords } from './use-part.ts';
import styles from './parts.module.css';

const FORM = 'part-form';

export interface FormDialogProps {
  title: string;
  lede?: ReactNode;
  action: string;
  /** For problems: "add the disk". */
  attempted: string;
  on: string;
  /** Nothing is wrong that can be seen from here. */
  right: boolean;
  submit: () => Promise<void>;
  onClose: () => void;
  children: (state: FormState) => ReactNode;
}

export interface FormState {
  /** Every field says what is wrong with it, typed into or not. */
  all: boolean;
  /** What the computer says of the path, until it is changed. */
  pathError: string | undefined;
  clearPathError: () => void;
  busy: boolean;
}

export function FormDialog({ title, lede, action, attempted, on, right, submit, onClose, children }: FormDialogProps) {
  const [all, setAll] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const save = async (): Promise<void> => {
    setAll(true);
    if (!right || busy) return;
    setBusy(true);
    setProblem(null);
    try {
      await submit();
      onClose();
    } catch (thrown) {
      setProblem(problemOf(thrown, attempted, on));
      setBusy(false);
    }
  };
  const onField = problem !== null && atPath(problem);
  return (
    <Dialog
      title={title} lede={lede} onClose={onClose}
      foot={<>
        <Button kind="plain" onPress={onClose}>Cancel</Button>
        <Button kind="primary" type="submit" form={FORM} isPending={busy}>{action}</Button>
      </>}
    >
      <Form id={FORM} className={styles.form} onSubmit={(event) => { event.preventDefault(); void save(); }}>
        {problem !== null && !onField && <ProblemNotice problem={problem} />}
        {children({ all, pathError: onField ? fieldWords(problem) : undefined, clearPathError: () => { if (onField) setProblem(null); }, busy })}
      </Form>
    </Dialog>
  );
}
