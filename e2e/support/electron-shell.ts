// Vitrine in Electron, by Playwright's own launcher, with the sandbox that Playwright would switch off.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { _electron } from '@playwright/test';
import type { ElectronApplication, Page } from '@playwright/test';
import { root } from './folders.ts';
import type { Folders } from './folders.ts';
import type { Shell } from './shell.ts';
import type { Watch } from './watch.ts';

/** Electron's binary: the one that ELECTRON_OVERRIDE_DIST_PATH names, else the one of the package. */
export function electronBinary(): string {
  const path = join(process.env.ELECTRON_OVERRIDE_DIST_PATH ?? join(root, 'node_modules/electron/dist'), 'electron');
  if (!existsSync(path)) throw new Error(`There is no Electron at ${path}. Run \`npm test\`, or set ELECTRON_OVERRIDE_DIST_PATH to what \`node e2e/electron/get.mjs\` prints.`);
  return path;
}

export class ElectronShell implements Shell {
  readonly kind = 'electron';
  readonly folders: Folders;
  readonly env: Record<string, string>;
  log = '';
  readonly #watch: Watch;
  #app: ElectronApplication | undefined;
  #page: Page | undefined;

  constructor(folders: Folders, env: Record<string, string>, watch: Watch) {
    this.folders = folders;
    this.env = env;
    this.#watch = watch;
  }

  get running(): boolean {
    return this.#app !== undefined;
  }

  get page(): Page {
    if (this.#page === undefined) throw new Error('The app does not run.');
    return this.#page;
  }

  async start(): Promise<void> {
    const app = await _electron.launch({ executablePath: electronBinary(), args: ['.'], chromiumSandbox: true, cwd: root, env: this.env, timeout: 60_000 });
    this.#app = app;
    const note = (chunk: Buffer) => { this.log += chunk.toString('utf8'); };
    app.process().stdout?.on('data', note);
    app.process().stderr?.on('data', note);
    app.on('window', (page) => this.#watch.add(page));
    this.#page = await app.firstWindow();
    this.#watch.add(this.#page);
    await this.#page.waitForLoadState('domcontentloaded');
  }

  async stop(): Promise<void> {
    const app = this.#app;
    this.#forget();
    await app?.close();
  }

  async kill(): Promise<void> {
    const app = this.#app;
    this.#forget();
    if (app === undefined) return;
    const child = app.process();
    const gone = new Promise<void>((done) => { child.once('exit', () => done()); });
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await gone;
  }

  async nextPage(): Promise<Page> {
    if (this.#app === undefined) throw new Error('The app does not run.');
    return this.#app.waitForEvent('window');
  }

  async close(): Promise<void> {
    await this.kill();
  }

  #forget(): void {
    this.#app = undefined;
    this.#page = undefined;
  }
}
