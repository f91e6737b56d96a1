// Vitrine in Electron, by Playwright's own launcher, with the sandbox that Playwright would switch off.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { _electron } from '@playwright/test';
import type { ElectronApplication, Page } from '@playwright/test';
import { root } from './folders.ts';
import { endProcess, Shell } from './shell.ts';

/** Electron's binary: the one that ELECTRON_OVERRIDE_DIST_PATH names, else the one of the package. */
export function electronBinary(): string {
  const path = join(process.env.ELECTRON_OVERRIDE_DIST_PATH ?? join(root, 'node_modules/electron/dist'), 'electron');
  if (!existsSync(path)) throw new Error(`There is no Electron at ${path}. Run \`npm test\`, or set ELECTRON_OVERRIDE_DIST_PATH to what \`node e2e/electron/get.mjs\` prints.`);
  return path;
}

export class ElectronShell extends Shell {
  readonly kind = 'electron';
  #app: ElectronApplication | undefined;

  get running(): boolean {
    return this.#app !== undefined;
  }

  async start(): Promise<void> {
    const app = await _electron.launch({ executablePath: electronBinary(), args: ['.'], chromiumSandbox: true, cwd: root, env: this.env, timeout: 60_000 });
    this.#app = app;
    this.listen(app.process());
    app.on('window', (page) => this.watch.add(page));
    this.show(await app.firstWindow());
    await this.page.waitForLoadState('domcontentloaded');
  }

  async stop(): Promise<void> {
    await this.#forget()?.close();
  }

  async kill(): Promise<void> {
    await endProcess(this.#forget()?.process(), 'SIGKILL');
  }

  async nextPage(): Promise<Page> {
    return this.there(this.#app).waitForEvent('window');
  }

  async close(): Promise<void> {
    await this.kill();
  }

  /** Another start makes another window. */
  #forget(): ElectronApplication | undefined {
    const app = this.#app;
    this.#app = undefined;
    this.first = undefined;
    return app;
  }
}
