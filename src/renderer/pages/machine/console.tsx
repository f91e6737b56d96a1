// The guest's first serial port, or one of its virtio consoles, as a terminal. What is typed goes to the port in order, as fast as the guest takes it.
import { useEffect, useRef, useState } from 'react';
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { ToggleButton, ToggleButtonGroup } from 'react-aria-components';
import type { ConsolePort } from '../../../shared/protocol/machine.ts';
import { fromBase64, toBase64 } from '../../client/base64.ts';
import type { MachineLink } from '../../client/machine-link.ts';
import styles from './console.module.css';

/** Bytes that one call carries: a long paste goes in several. */
const PIECE = 16 * 1024;
const SCROLLBACK = 10_000;

function role(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Where a terminal's letters go: the serial port, or a port of a virtio console. */
type Place = Pick<ConsolePort, 'slot' | 'port'> | null;

/** Sends bytes in order, each piece once the one before it was taken. */
class PortWriter {
  readonly #source: MachineLink;
  readonly #place: Place;
  #waiting: Uint8Array[] = [];
  #busy = false;

  constructor(source: MachineLink, place: Place) {
    this.#source = source;
    this.#place = place;
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += PIECE) this.#waiting.push(bytes.subarray(at, at + PIECE));
    if (!this.#busy) void this.#run();
  }

  async #run(): Promise<void> {
    this.#busy = true;
    try {
      for (let piece = this.#waiting.shift(); piece !== undefined; piece = this.#waiting.shift()) {
        const data = toBase64(piece);
        if (this.#place === null) await this.#source.client?.call('serialWrite', { data });
        else await this.#source.client?.call('consoleWrite', { ...this.#place, data });
      }
    } catch {
      // The machine went away; what was typed for it goes with it.
      this.#waiting = [];
    } finally {
      this.#busy = false;
    }
  }
}

/** The id of the serial port among those to choose from. */
const SERIAL = 'serial';
const idOf = ({ slot, port }: ConsolePort): string => `${slot}.${port}`;

export function Console({ source, name, live, ports }: { source: MachineLink; name: string; live: boolean; ports: readonly ConsolePort[] }) {
  const [chosen, setChosen] = useState(SERIAL);
  // A port that went away leaves the serial port to look at.
  const port = ports.find((each) => idOf(each) === chosen);
  return (
    <div className={styles.frame} data-live={live || undefined}>
      {ports.length > 0 && (
        <div className={styles.ports}>
          <ToggleButtonGroup aria-label="Console" selectionMode="single" disallowEmptySelection selectedKeys={[port === undefined ? SERIAL : chosen]} onSelectionChange={(keys) => setChosen(String([...keys][0] ?? SERIAL))} className={styles.choice}>
            <ToggleButton id={SERIAL} className={styles.port}>Serial port</ToggleButton>
            {ports.map((each) => <ToggleButton key={idOf(each)} id={idOf(each)} className={styles.port}>{each.name}</ToggleButton>)}
          </ToggleButtonGroup>
          {port !== undefined && live && !port.open && <span className={styles.closed} role="status">Nothing in the guest has it open</span>}
        </div>
      )}
      <PortTerminal key={port === undefined ? SERIAL : chosen} source={source} name={name} live={live} place={port === undefined ? null : chosen} />
      {!live && <p className={styles.note} role="status">The machine is off. Above stands what it wrote last, if this window was open.</p>}
    </div>
  );
}

/** @param place "SLOT.PORT" of a virtio console; null for the serial port */
function PortTerminal({ source, name, live, place: id }: { source: MachineLink; name: string; live: boolean; place: string | null }) {
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
    const [slot, port] = id === null ? [] : id.split('.').map(Number);
    const place = slot === undefined || port === undefined ? null : { slot, port };
    const writer = new PortWriter(source, place);
    const encoder = new TextEncoder();
    term.onData((text) => writer.write(encoder.encode(text)));
    term.onBinary((letters) => writer.write(Uint8Array.from(letters, (letter) => letter.charCodeAt(0))));
    const begin = ({ data, dropped }: { data: string; dropped: number }): void => {
      term.reset();
      if (dropped > 0) term.write(`\x1b[2m[${dropped} bytes before this are no longer kept]\x1b[0m\r\n`);
      term.write(fromBase64(data));
    };
    const more = (data: string): void => term.write(fromBase64(data));
    const end = source.onOpen((client) => (place === null ? client.stream('serial', begin, more, () => {}) : client.stream('console', begin, more, () => {}, place)));
    // A virtio console knows how large the terminal is; a serial port does not.
    const tellSize = (): void => {
      if (place !== null && term.cols > 0 && term.rows > 0) source.client?.call('consoleSize', { ...place, columns: term.cols, rows: term.rows }).catch(() => {}); // it went away
    };
    term.onResize(tellSize);
    const endSize = place === null ? (): void => {} : source.onOpen(() => {
      tellSize();
      return () => {};
    });
    term.focus();
    return () => {
      end();
      endSize();
      resize.disconnect();
      term.dispose();
      terminal.current = null;
    };
  }, [source, name, id]);

  useEffect(() => {
    if (terminal.current !== null) terminal.current.options.disableStdin = !live;
  }, [live]);

  return <div className={styles.terminal} ref={box} data-testid="console" />;
}
