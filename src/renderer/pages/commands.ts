// Commands that the native menu and the keyboard share, and who listens to them on the page.
import type { MenuCommand } from '../../shared/bridge.ts';
import { bridge } from '../client/bridge.ts';

type Listener = (command: MenuCommand) => void;

const listeners = new Set<Listener>();

bridge.onMenu?.((command) => runCommand(command));

export function onCommand(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function runCommand(command: MenuCommand): void {
  for (const listener of listeners) listener(command);
}

/** Whether keys at this element are text for it: a field, or the console. */
export function typingInto(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest('input, textarea, select, [contenteditable], .xterm, [role="menu"], [role="dialog"], [role="alertdialog"]') !== null;
}
