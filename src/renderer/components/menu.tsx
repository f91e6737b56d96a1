// A menu that opens from a button: items are verbs, with their shortcut at the right edge.
import type { ReactNode } from 'react';
import { Header, Menu as AriaMenu, MenuItem as AriaMenuItem, MenuSection as AriaMenuSection, MenuTrigger, Popover, Separator } from 'react-aria-components';
import type { MenuItemProps as AriaMenuItemProps } from 'react-aria-components';
import styles from './overlay.module.css';

export interface MenuProps {
  /** The button that opens it. */
  trigger: ReactNode;
  label: string;
  children: ReactNode;
}

export function Menu({ trigger, label, children }: MenuProps) {
  return (
    <MenuTrigger>
      {trigger}
      <Popover className={styles.popover} placement="bottom end" offset={4}>
        <AriaMenu className={styles.menu} aria-label={label}>{children}</AriaMenu>
      </Popover>
    </MenuTrigger>
  );
}

export interface MenuItemProps extends Omit<AriaMenuItemProps, 'className' | 'style' | 'children' | 'textValue'> {
  text: string;
  icon?: ReactNode;
  shortcut?: string;
  danger?: boolean;
}

export function MenuItem({ text, icon, shortcut, danger = false, ...props }: MenuItemProps) {
  return (
    <AriaMenuItem {...props} textValue={text} className={`${styles.item} ${danger ? styles.danger : ''}`}>
      {icon}<span>{text}</span>{shortcut !== undefined && <kbd>{shortcut}</kbd>}
    </AriaMenuItem>
  );
}

export function MenuSection({ heading, children }: { heading?: string; children: ReactNode }) {
  return (
    <AriaMenuSection>
      {heading !== undefined && <Header className={styles.heading}>{heading}</Header>}
      {children}
    </AriaMenuSection>
  );
}

export function MenuSeparator() {
  return <Separator className={styles.separator} />;
}
