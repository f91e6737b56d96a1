// Which dialog is open. Dialogs belong to the window, not to the card or bar that asked for them: those may go while one reads.
import { create } from 'zustand';

export type OpenDialog =
  | { kind: 'new' }
  | { kind: 'edit' | 'remove' | 'force-off' | 'reset' | 'log' | 'damaged' | 'devices'; id: string }
  /** Which machine gets this group of devices. */
  | { kind: 'give'; group: string; name: string }
  | { kind: 'shortcuts' };

interface Dialogs {
  open: OpenDialog | null;
}

export const useDialogs = create<Dialogs>(() => ({ open: null }));

export function openDialog(open: OpenDialog): void {
  useDialogs.setState({ open });
}

export function closeDialog(): void {
  useDialogs.setState({ open: null });
}
