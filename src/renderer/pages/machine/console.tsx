// The guest's first serial port as a terminal. What is typed goes to the port in order, as fast as the guest takes it.
import { useEffect, useRef } from 'react';
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { fromBase64, toBase64 } from '../../client/base64.ts';
import type { MachineLink } from '../../client/machine-link.ts';
import styles from './console.module.css';

/** Bytes that one call carries: a long paste goes in several. */
const PIECE = 16 * 1024;
const SCROLLBACK = 10_000;

function role(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Sends bytes in order, each piece once the one before it was taken. */
class SerialWriter {
  readonly #source: MachineLink;
  #waiting: Uint8Array[] = [];
  #busy = false;

  constructor(source: MachineLink) {
    this.#source = source;
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += PIECE) this.#waiting.push(bytes.subarray(at, at + PIECE));
    if (!this.#busy) void this.#run();
  }

  async #run(): Promise<void> {
    this.#busy = true;
    try {
      for (let piece = this.#waiting.shift(); piece !== undefined; piece = this.#waiting.shift()) {
        await this.#source.client?.call('serialWrite', { data: toBase64(piece) });
      }
    } catch {
      // The machine went away; what was typed for it goes with it.
      this.#waiting = [];
    } finally {
      this.#busy = false;
    }
  }
}

export function Console({ source, name, live }: { source: MachineLink; name: string; live: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const terminal = useRef<Terminal>(null);

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const term = new Terminal({
      fontFamily: role('--mono'), fontSize: 13, lineHeight: 1.25, scrollback: SCROLLBACK, cursorBlink: false, allowProposedApi: false,
      theme: { background: role('--glass'), foreground: role('--on-glass-strong'), cursor: role('--glass-accent'), selectionBackground: '#2f5f56' },
    });
    terminal.current = term;
    const fit = new FitAddon();
    term.loadAddon(fit);
    term.open(element);
    term.textarea?.setAttribute('aria-label', `Console of ${name}`);
    const resize = new ResizeObserver(() => { if (element.clientHeight > 0) fit.fit(); });
    resize.observe(element);
    // The width of a letter is known only once the font is there.
    void document.fonts.ready.then(() => { if (element.isConnected) fit.fit(); });
    // Every key is the guest's but the ways out of here, and copying where Ctrl+C is the guest's too.
    term.attachCustomKeyEventHandler((event) => {
      if (event.altKey && !event.ctrlKey && /^Digit[123]$/.test(event.code)) return false;
      if (event.ctrlKey && event.shiftKey && event.code === 'KeyC') {
        event.preventDefault();
        if (event.type === 'keydown') document.execCommand('copy');
        return false;
      }
      return event.key !== 'F11';
    });
    const writer = new SerialWriter(source);
    const encoder = new TextEncoder();
    term.onData((text) => writer.write(encoder.encode(text)));
    term.onBinary((letters) => writer.write(Uint8Array.from(letters, (letter) => letter.charCodeAt(0))));
    const end = source.onOpen((client) => client.stream(
      'serial',
      ({ data, dropped }) => {
        term.reset();
        if (dropped > 0) term.write(`\x1b[2m[${dropped} bytes before this are no longer kept]\x1b[0m\r\n`);
        term.write(fromBase64(data));
      },
      (data) => term.write(fromBase64(data)),
      () => {},
    ));
    term.focus();
    return () => {
      end();
      resize.disconnect();
      term.dispose();
      terminal.current = null;
    };
  }, [source, name]);

  useEffect(() => {
    if (terminal.current !== null) terminal.current.options.disableStdin = !live;
  }, [live]);

  return (
    <div className={styles.frame} data-live={live || undefined}>
      <div className={styles.terminal} ref={box} data-testid="console" />
      {!live && <p className={styles.note} role="status">The machine is off. Above stands what it wrote last, if this window was open.</p>}
    </div>
  );
}
