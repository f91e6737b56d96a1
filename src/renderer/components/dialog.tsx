// A dialog: a title that says what it does, a body, and buttons at the foot. Escape and a click outside go back.
import { useEffect } from 'react';
import type { ReactNode } from 'react';
import { Dialog as AriaDialog, Heading, Modal, ModalOverlay } from 'react-aria-components';
import { Button } from './button.tsx';
import { useKeptFocus } from './kept-focus.ts';
import styles from './overlay.module.css';

export interface DialogProps {
  title: string;
  lede?: ReactNode;
  children?: ReactNode;
  /** Buttons at the foot, the obvious one last. */
  foot: ReactNode;
  small?: boolean;
  onClose: () => void;
  role?: 'dialog' | 'alertdialog';
}

const LAYERS = '[role="dialog"], [role="alertdialog"], [role="menu"], [role="listbox"]';

/** Escape in the moments before the focus has come into the dialog: until then it does not hear its keys. */
function useEarlyEscape(onClose: () => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== 'Escape' || event.defaultPrevented || document.activeElement?.closest(LAYERS)) return;
      event.preventDefault();
      onClose();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  });
}

export function Dialog({ title, lede, children, foot, small = false, onClose, role = 'dialog' }: DialogProps) {
  useEarlyEscape(onClose);
  const inside = useKeptFocus<HTMLElement>();
  return (
    <ModalOverlay isOpen isDismissable={role === 'dialog'} onOpenChange={(open) => { if (!open) onClose(); }} className={styles.veil}>
      <Modal className={`${styles.modal} ${small ? styles.small : ''}`}>
        <AriaDialog ref={inside} role={role} className={styles.dialog}>
          <div className={styles.dialogHead}>
            <Heading slot="title" level={2}>{title}</Heading>
            {lede !== undefined && <p>{lede}</p>}
          </div>
          <div className={styles.dialogBody}>{children}</div>
          <div className={styles.dialogFoot}>{foot}</div>
        </AriaDialog>
      </Modal>
    </ModalOverlay>
  );
}

export interface ConfirmProps {
  title: string;
  children: ReactNode;
  /** The verb with its object: "Force off Debian lab". */
  action: string;
  onConfirm: () => void;
  onClose: () => void;
}

/** Asked before something is cut or deleted. Escape and Enter both go the safe way: the safe button has the focus. */
export function Confirm({ title, children, action, onConfirm, onClose }: ConfirmProps) {
  return (
    <Dialog
      title={title} small role="alertdialog" onClose={onClose}
      foot={<>
        <Button autoFocus onPress={onClose}>Go back</Button>
        <Button kind="danger" onPress={() => { onClose(); onConfirm(); }}>{action}</Button>
      </>}
    >
      <div className={styles.words}>{children}</div>
    </Dialog>
  );
}
