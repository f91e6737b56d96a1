// What every spec stands on: `app` starts Vitrine in the shell of the Playwright project, Electron's own window or Chromium on the
// address of `vitrine serve`, in fresh XDG folders, and gives both the same API. At the end nothing is left running, and the test
// fails on any violation of the content security policy, any error on a console, and any machine that ran as root.
//
//   import { test, expect } from './fixtures.ts';
//   test('the library shows two machines', async ({ app }) => { await expect(app.page.getByRole('listitem')).toHaveCount(2); });
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test as base } from '@playwright/test';
import type { Page } from '@playwright/test';
import { expectAccessible } from './support/axe.ts';
import { BrowserShell } from './support/browser-shell.ts';
import { ElectronShell } from './support/electron-shell.ts';
import { Folders, root } from './support/folders.ts';
import { Processes } from './support/processes.ts';
import { quietNetwork } from './support/quiet-network.ts';
import { runCli } from './support/cli.ts';
import type { CliResult } from './support/cli.ts';
import { Watch } from './support/watch.ts';
import type { Shell } from './support/shell.ts';

export { expect } from '@playwright/test';

export type Theme = 'light' | 'dark';
export type Backend = 'kvm' | 'lab' | 'probe';

/** What a spec may set by `test.use({ … })`. */
export interface Options {
  /** Which theme the desktop asks for. */
  theme: Theme;
  /** Where machines run: `kvm` on /dev/kvm, `lab` in the emulated host, `probe` as the app finds best. */
  backend: Backend;
  /** More of the environment for the app, its CLI and its machines. */
  env: Record<string, string>;
}

/** Vitrine as it runs for one test. */
export class App {
  readonly shell: 'electron' | 'browser';
  readonly folders: Folders;
  readonly env: Record<string, string>;
  readonly #running: Shell;
  readonly #watch: Watch;
  readonly #processes: Processes;
  readonly #theme: Theme;

  constructor(running: Shell, watch: Watch, processes: Processes, theme: Theme) {
    this.shell = running.kind;
    this.folders = running.folders;
    this.env = running.env;
    this.#running = running;
    this.#watch = watch;
    this.#processes = processes;
    this.#theme = theme;
  }

  /** The page of the first window. Another one after `restart()`, so do not keep it. */
  get page(): Page {
    return this.#running.page;
  }

  /** Starts the app, after `stop()` or `kill()`. */
  async start(): Promise<Page> {
    await this.#running.start();
    // Until here a browser's tab looks for the server that was there before.
    this.#watch.expectLoss(false);
    await this.#themed(this.page);
    return this.page;
  }

  /** Quits the app as a person does; machines run on. */
  async stop(): Promise<void> {
    this.#watch.expectLoss(true);
    await this.#running.stop();
  }

  /** Quits the app and starts it again. */
  async restart(): Promise<Page> {
    await this.stop();
    return this.start();
  }

  /** Kills the app (Electron, or `vitrine serve`) with SIGKILL, and nothing else. */
  async kill(): Promise<void> {
    this.#watch.expectLoss(true);
    await this.#running.kill();
  }

  /** The page of the window (in a browser: the tab) that `action` opens. */
  async newPage(action: () => Promise<unknown>): Promise<Page> {
    const [page] = await Promise.all([this.#running.nextPage(), action()]);
    this.#watch.add(page);
    await page.waitForLoadState('domcontentloaded');
    await this.#themed(page);
    return page;
  }

  /** Allows errors on the console that match, for a test that provokes one. */
  allow(pattern: RegExp): void {
    this.#watch.allow(pattern);
  }

  /**
   * Keeps test-results/shots/NAME-SHELL-THEME.png, and fails where axe finds something on that screen, in this theme or in the other: so a test
   * that goes through the same screens once in each theme asks in the light one.
   */
  async shot(name: string, page: Page = this.page): Promise<void> {
    await this.picture(name, page);
    if (this.#theme === 'light') await expectAccessible(page, name);
  }

  /** The picture alone. Returns its path. */
  async picture(name: string, page: Page = this.page): Promise<string> {
    const folder = join(root, 'test-results', 'shots');
    mkdirSync(folder, { recursive: true });
    const path = join(folder, `${name}-${this.shell}-${this.#theme}.png`);
    await page.screenshot({ path });
    return path;
  }

  /** Runs the CLI as the same user would in a terminal: `await app.cli('list')`. */
  async cli(...words: string[]): Promise<CliResult> {
    return runCli(words, this.env);
  }

  /** Processes of machines (and relays to the lab) that this test started and that still run. */
  machines(): { pid: number; euid: number; command: string }[] {
    return this.#processes.machines();
  }

  async #themed(page: Page): Promise<void> {
    await page.emulateMedia({ colorScheme: this.#theme });
    await quietNetwork(page);
  }
}

export const test = base.extend<Options & { app: App }>({
  theme: ['light', { option: true }],
  backend: ['probe', { option: true }],
  env: [{}, { option: true }],

  app: async ({ theme, backend, env }, provide, info) => {
    if (process.geteuid?.() === 0) throw new Error('Playwright runs as root: permissions and limits mean nothing then. Use `npm test`, which makes an ordinary user.');
    const folders = new Folders();
    const environment = folders.environment({ ...(backend === 'probe' ? {} : { VITRINE_BACKEND: backend }), ...env });
    const watch = new Watch();
    const processes = new Processes(folders.runtime);
    const shell: Shell = info.project.name === 'electron' ? new ElectronShell(folders, environment, watch) : new BrowserShell(folders, environment, watch);
    const app = new App(shell, watch, processes, theme);
    const problems: string[] = [];
    try {
      await app.start();
      await provide(app);
      if (info.status !== info.expectedStatus && shell.running) await app.picture(`failed-${info.titlePath.slice(1).join(' ').replaceAll(/[^a-zA-Z0-9]+/g, '-')}`);
    } finally {
      problems.push(...processes.asRoot());
      watch.expectLoss(true);
      if (shell.log !== '') await info.attach('app.log', { body: shell.log, contentType: 'text/plain' });
      await shell.close();
      await processes.end();
      await folders.remove();
    }
    problems.push(...watch.problems());
    if (problems.length > 0) throw new Error(`The app said things that it must not say:\n${problems.join('\n')}\n\nIts log:\n${shell.log}`);
  },
});
