// A check box, and a choice of one among a few: the words are part of what is pressed.
import type { ReactNode } from 'react';
import { Check as CheckSign } from 'lucide-react';
import { Checkbox, Label, Radio, RadioGroup } from 'react-aria-components';
import styles from './check.module.css';

export interface CheckProps {
  children: ReactNode;
  isSelected: boolean;
  onChange: (selected: boolean) => void;
  isDisabled?: boolean;
  className?: string;
  /** The id of what says more. */
  describedBy?: string;
}

export function Check({ children, isSelected, onChange, isDisabled = false, className = '', describedBy }: CheckProps) {
  return (
    <Checkbox className={`${styles.check} ${className}`} isSelected={isSelected} onChange={onChange} isDisabled={isDisabled} aria-describedby={describedBy}>
      <span className={styles.box} aria-hidden><CheckSign size={14} strokeWidth={3} /></span>
      <span className={styles.words}>{children}</span>
    </Checkbox>
  );
}

export interface OneOf<T extends string> {
  value: T;
  text: string;
  help?: string;
}

export interface OneOfFieldProps<T extends string> {
  label: string;
  choices: readonly OneOf<T>[];
  value: T;
  onChange: (value: T) => void;
}

export function OneOfField<T extends string>({ label, choices, value, onChange }: OneOfFieldProps<T>) {
  return (
    <RadioGroup className={styles.group} value={value} onChange={(chosen) => onChange(chosen as T)}>
      <Label className={styles.label}>{label}</Label>
      {choices.map(({ value: each, text, help }) => (
        <Radio key={each} value={each} className={styles.check}>
          <span className={styles.ring} aria-hidden />
          <span className={styles.words}><span>{text}</span>{help !== undefined && <small>{help}</small>}</span>
        </Radio>
      ))}
    </RadioGroup>
  );
}
