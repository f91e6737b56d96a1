// The guest's serial port on this terminal: raw, so that every key goes to the guest. Ctrl+A is the way out, as in other consoles:
// Ctrl+A X ends the machine, Ctrl+A twice sends one, Ctrl+A H says so; anything else after it goes to the guest as it is.

const CTRL_A = 0x01;

/** What the keys typed mean, one array after another; remembers a Ctrl+A at the end of one for the next. */
export class EscapeReader {
  #escaped = false;

  /** The bytes for the guest, and whether the machine is to end or the help is wanted. */
  read(typed: Uint8Array): { bytes: Uint8Array; end: boolean; help: boolean } {
    const bytes: number[] = [];
    let help = false;
    for (const byte of typed) {
      if (!this.#escaped) {
        if (byte === CTRL_A) this.#escaped = true;
        else bytes.push(byte);
        continue;
      }
      this.#escaped = false;
      const letter = String.fromCharCode(byte).toLowerCase();
      if (letter === 'x') return { bytes: Uint8Array.from(bytes), end: true, help };
      if (letter === 'h' || letter === '?') help = true;
      else if (byte === CTRL_A) bytes.push(CTRL_A);
      else bytes.push(CTRL_A, byte);
    }
    return { bytes: Uint8Array.from(bytes), end: false, help };
  }
}

/** Bytes of one serialWrite at most, before base64. */
const PIECE = 16 * 1024;

export interface ConsoleHandlers {
  /** Bytes for the guest; the next ones wait until it resolves. */
  write: (bytes: Uint8Array) => Promise<void>;
  /** Ctrl+A X. */
  end: () => void;
}

/** Takes the terminal's (or a pipe's) input until the returned function is called, which gives the terminal back. */
export function openConsole(input: NodeJS.ReadStream, { write, end }: ConsoleHandlers): () => void {
  const terminal = input.isTTY === true;
  const keys = new EscapeReader();
  if (terminal) input.setRawMode(true);
  const typed = (chunk: Buffer) => {
    // What comes from a file or a pipe is the guest's as it is.
    const read = terminal ? keys.read(chunk) : { bytes: chunk, end: false, help: false };
    if (read.help) process.stderr.write('\r\nCtrl+A X ends the machine, Ctrl+A Ctrl+A sends Ctrl+A.\r\n');
    input.pause();
    const send = async () => {
      for (let at = 0; at < read.bytes.length; at += PIECE) await write(read.bytes.subarray(at, at + PIECE));
    };
    send().then(
      () => input.resume(),
      () => {
        // The machine is gone or going; so is this command.
      },
    );
    if (read.end) end();
  };
  input.on('data', typed);
  return () => {
    input.off('data', typed);
    if (terminal) input.setRawMode(false);
    input.pause();
    input.unref?.();
  };
}
