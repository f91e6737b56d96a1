// What a shell hands to its page: where the front is, and the few things that only Electron can do. The preload fills it in.

/** What the native menu asks of the page. */
export type MenuCommand =
  | 'machines' | 'devices' | 'computer' | 'new-machine' | 'find'
  | 'screen' | 'console' | 'log' | 'parts' | 'screenshot' | 'scale' | 'shortcuts';

export interface Bridge {
  shell: 'electron' | 'browser';
  /** `ws://127.0.0.1:PORT`, without a path. */
  frontAddress: string;
  token: string;
  /** Asks where to save a PNG and writes it there; the path, or null when the person changed their mind. */
  saveScreenshot?: (suggestedName: string, png: Uint8Array<ArrayBuffer>) => Promise<string | null>;
  /** Asks for a file to read; its path, or null. */
  pickFile?: (title: string) => Promise<string | null>;
  /** Asks for a folder; its path, or null. */
  pickFolder?: (title: string) => Promise<string | null>;
  /** Opens a machine in a window of its own. */
  openWindow?: (machineId: string) => Promise<void>;
  /** Calls back for each command of the native menu; ends with the function that it returns. */
  onMenu?: (listener: (command: MenuCommand) => void) => () => void;
}
