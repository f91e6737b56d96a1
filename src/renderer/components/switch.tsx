// A switch: something that is on or off at once. The words are part of what is pressed.
import type { ReactNode } from 'react';
import { Switch as AriaSwitch } from 'react-aria-components';
import styles from './switch.module.css';

export interface SwitchProps {
  children: ReactNode;
  /** The accessible name, where the words alone do not say what it switches. */
  label?: string;
  isSelected: boolean;
  onChange: (selected: boolean) => void;
  isDisabled?: boolean;
}

export function Switch({ children, label, isSelected, onChange, isDisabled = false }: SwitchProps) {
  return (
    <AriaSwitch className={styles.switch} aria-label={label} isSelected={isSelected} onChange={onChange} isDisabled={isDisabled}>
      <span className={styles.track} aria-hidden><span className={styles.knob} /></span>
      <span>{children}</span>
    </AriaSwitch>
  );
}
