// A line for a terminal, and a button that copies it.
import { useState } from 'react';
import { Check, Copy } from 'lucide-react';
import { IconButton } from './button.tsx';
import styles from './copied.module.css';

/** How long the button says that it was done, in milliseconds. */
const SAID = 2000;

export function Copied({ text, what }: { text: string; /** "the mount command": the button copies it. */ what: string }) {
  const [done, setDone] = useState(false);
  const copy = (): void => {
    navigator.clipboard.writeText(text).then(() => {
      setDone(true);
      setTimeout(() => setDone(false), SAID);
    }, () => {}); // not allowed: the text can be marked
  };
  return (
    <span className={styles.line}>
      <code>{text}</code>
      <IconButton label={done ? 'Copied' : `Copy ${what}`} onPress={copy}>{done ? <Check size={15} aria-hidden /> : <Copy size={15} aria-hidden />}</IconButton>
    </span>
  );
}
