// A button is a verb with its object. Four kinds: ordinary, primary (one a page), danger (cuts or deletes), plain (steps back).
import type { ReactNode } from 'react';
import { Button as AriaButton, Tooltip, TooltipTrigger } from 'react-aria-components';
import type { ButtonProps as AriaButtonProps } from 'react-aria-components';
import styles from './button.module.css';
import overlay from './overlay.module.css';

export type ButtonKind = 'ordinary' | 'primary' | 'danger' | 'plain';

export interface ButtonProps extends Omit<AriaButtonProps, 'className' | 'style' | 'children'> {
  kind?: ButtonKind;
  children?: ReactNode;
  className?: string;
}

export function Button({ kind = 'ordinary', className = '', ...props }: ButtonProps) {
  const kindClass = kind === 'ordinary' ? '' : styles[kind];
  return <AriaButton {...props} className={`${styles.button} ${kindClass} ${className}`} />;
}

export interface IconButtonProps extends Omit<ButtonProps, 'children'> {
  /** What it does, in words: the accessible name and the tooltip. */
  label: string;
  children: ReactNode;
  /** Its shortcut, shown in the tooltip. */
  shortcut?: string;
}

export function IconButton({ label, shortcut, kind = 'plain', className = '', children, ...props }: IconButtonProps) {
  return (
    <TooltipTrigger delay={500} closeDelay={0}>
      <Button {...props} kind={kind} aria-label={label} className={`${styles.icon} ${className}`}>{children}</Button>
      <Tooltip offset={6} className={overlay.tooltip}>
        {label}{shortcut !== undefined && <kbd>{shortcut}</kbd>}
      </Tooltip>
    </TooltipTrigger>
  );
}
