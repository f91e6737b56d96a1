// Commands for a terminal, as they are, with a button that copies them.
import { useEffect, useState } from 'react';
import { Check, Copy } from 'lucide-react';
import { Button, IconButton } from './button.tsx';
import type { ButtonKind } from './button.tsx';
import styles from './commands.module.css';

/** Milliseconds for which a button says that it has copied. */
const SAID = 2000;

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Where the clipboard is not to be had, the old way: what is selected.
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
}

/** @returns whether it was done just now, and what does it */
function useCopied(text: string): [boolean, () => void] {
  const [copied, setCopied] = useState(0);
  useEffect(() => {
    if (copied === 0) return;
    const timer = setTimeout(() => setCopied(0), SAID);
    return () => clearTimeout(timer);
  }, [copied]);
  return [copied > 0, () => void copy(text).then(() => setCopied((old) => old + 1))];
}

export function CopyButton({ text, children, kind = 'plain' }: { text: string; children: string; kind?: ButtonKind }) {
  const [copied, run] = useCopied(text);
  return <Button kind={kind} onPress={run}>{copied ? <Check size={16} aria-hidden /> : <Copy size={16} aria-hidden />}<span aria-live="polite">{copied ? 'Copied' : children}</span></Button>;
}

export function Commands({ title, commands }: { title: string; commands: readonly string[] }) {
  const text = commands.join('\n');
  const [copied, run] = useCopied(text);
  return (
    <div className={styles.commands}>
      <p>{title}</p>
      <div>
        <pre tabIndex={0} aria-label={title}>{text}</pre>
        <IconButton label={copied ? 'Copied' : 'Copy'} onPress={run}>{copied ? <Check size={16} aria-hidden /> : <Copy size={16} aria-hidden />}</IconButton>
      </div>
    </div>
  );
}
