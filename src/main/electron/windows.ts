// The windows: one for the library, and one for each machine that was asked to have its own.
import { join } from 'node:path';
import { BrowserWindow, app, nativeTheme } from 'electron';
import { PAGE } from './app-protocol.ts';
import { keepState, loadState } from './window-state.ts';

const DEFAULT = { width: 1280, height: 860 };
const MACHINE = { width: 1320, height: 940 };
/** --ground of the two themes, so that a window does not flash before its page is there. */
const ground = { light: '#f3f4f3', dark: '#171a19' };

export class Windows {
  readonly #preload: string;
  #main: BrowserWindow | null = null;
  readonly #machines = new Map<string, BrowserWindow>();

  /** @param preload the built preload's path */
  constructor(preload: string) {
    this.#preload = preload;
  }

  /** Shows the main window, making it if there is none. */
  showMain(): void {
    if (this.#main !== null) {
      if (this.#main.isMinimized()) this.#main.restore();
      this.#main.focus();
      return;
    }
    const path = join(app.getPath('userData'), 'window.json');
    const state = loadState(path);
    const window = this.#make(state?.bounds ?? DEFAULT);
    if (state?.maximized === true) window.maximize();
    keepState(window, path);
    window.on('closed', () => { this.#main = null; });
    this.#main = window;
    void window.loadURL(PAGE);
  }

  showMachine(id: string): void {
    const open = this.#machines.get(id);
    if (open !== undefined) {
      if (open.isMinimized()) open.restore();
      open.focus();
      return;
    }
    const window = this.#make(MACHINE);
    window.on('closed', () => this.#machines.delete(id));
    this.#machines.set(id, window);
    void window.loadURL(`${PAGE}#/machine/${encodeURIComponent(id)}`);
  }

  #make(bounds: { width: number; height: number; x?: number; y?: number }): BrowserWindow {
    const window = new BrowserWindow({
      ...bounds,
      minWidth: 560,
      minHeight: 400,
      show: false,
      title: 'Vitrine',
      backgroundColor: nativeTheme.shouldUseDarkColors ? ground.dark : ground.light,
      webPreferences: {
        preload: this.#preload,
        sandbox: true,
        contextIsolation: true,
        nodeIntegration: false,
        webviewTag: false,
        spellcheck: false,
      },
    });
    window.once('ready-to-show', () => window.show());
    // In full screen the guest has all there is, and no key opens a menu above it.
    window.on('enter-full-screen', () => window.setMenuBarVisibility(false));
    window.on('leave-full-screen', () => window.setMenuBarVisibility(true));
    return window;
  }
}
