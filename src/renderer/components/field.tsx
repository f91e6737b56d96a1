// Fields of a form: the label above, the reason below, in a line that keeps its height.
import type { ReactNode, RefObject } from 'react';
import { CircleAlert, Search, X } from 'lucide-react';
import { Button, FieldError, Input, Label, SearchField as AriaSearchField, Text, TextField as AriaTextField } from 'react-aria-components';
import styles from './field.module.css';

export interface TextFieldProps {
  label: string;
  /** Beside the label, faint: "optional". */
  aside?: string;
  value: string;
  onChange: (value: string) => void;
  /** What is wrong with the value; undefined when nothing is. */
  error?: string;
  help?: ReactNode;
  placeholder?: string;
  mono?: boolean;
  autoFocus?: boolean;
  isDisabled?: boolean;
  /** After the input: a unit, a button. */
  after?: ReactNode;
  inputMode?: 'text' | 'numeric' | 'decimal';
  /** The label is only read, not shown: in a table that has it above. No line is kept below. */
  bare?: boolean;
}

export function TextField({ label, aside, value, onChange, error, help, placeholder, mono = false, autoFocus = false, isDisabled = false, after, inputMode = 'text', bare = false }: TextFieldProps) {
  return (
    <AriaTextField className={styles.field} value={value} onChange={onChange} isInvalid={error !== undefined} isDisabled={isDisabled} autoFocus={autoFocus} validationBehavior="aria">
      <Label className={bare ? styles.read : styles.label}>{label} {aside !== undefined && <span>{aside}</span>}</Label>
      <div className={styles.box}>
        <Input className={`${styles.input} ${mono ? styles.mono : ''}`} placeholder={placeholder} spellCheck={false} autoComplete="off" inputMode={inputMode} />
        {after}
      </div>
      {error === undefined
        ? !bare && <Text slot="description" className={styles.help}>{help ?? ' '}</Text>
        : <FieldError className={styles.error}><CircleAlert size={14} aria-hidden /><span>{error}</span></FieldError>}
    </AriaTextField>
  );
}

export interface SearchFieldProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  inputRef?: RefObject<HTMLInputElement | null>;
}

export function SearchField({ label, value, onChange, inputRef }: SearchFieldProps) {
  return (
    <AriaSearchField className={styles.search} aria-label={label} value={value} onChange={onChange}>
      <Search size={16} aria-hidden />
      <Input ref={inputRef} className={styles.input} placeholder={label} spellCheck={false} />
      <Button className={styles.clear} aria-label="Clear the search"><X size={14} aria-hidden /></Button>
    </AriaSearchField>
  );
}
