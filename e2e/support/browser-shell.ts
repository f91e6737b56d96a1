// Vitrine in a browser: `vitrine serve` prints an address, and a Chromium of its own opens it, sandboxed. After the server's death the
// browser stays, as a person's would; a start opens the new address in the same tab.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from '@playwright/test';
import type { Browser, BrowserContext, Page } from '@playwright/test';
import { root } from './folders.ts';
import { endProcess, Shell } from './shell.ts';

/** Debian's Chromium; VITRINE_CHROMIUM names another. */
export function chromiumBinary(): string {
  const candidates = [process.env.VITRINE_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  const path = candidates.find((candidate) => candidate !== undefined && existsSync(candidate));
  if (path === undefined) throw new Error('There is no Chromium. Install the package chromium, or set VITRINE_CHROMIUM to the path of one.');
  return path;
}

export class BrowserShell extends Shell {
  readonly kind = 'browser';
  #server: ChildProcess | undefined;
  #browser: Browser | undefined;
  #context: BrowserContext | undefined;

  get running(): boolean {
    return this.#server !== undefined;
  }

  async start(): Promise<void> {
    const address = await this.#serve();
    if (this.#context === undefined) {
      this.#browser = await chromium.launch({
        executablePath: chromiumBinary(),
        chromiumSandbox: true,
        headless: process.env.DISPLAY === undefined,
        env: this.env,
        args: ['--enable-unsafe-swiftshader', '--no-first-run', '--disable-component-update'],
      });
      this.#context = await this.#browser.newContext({ viewport: { width: 1440, height: 960 } });
      this.#context.on('page', (page) => this.watch.add(page));
      this.show(await this.#context.newPage());
    }
    await this.page.goto(address, { waitUntil: 'domcontentloaded' });
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async nextPage(): Promise<Page> {
    return this.there(this.#context).waitForEvent('page');
  }

  async close(): Promise<void> {
    await this.#browser?.close();
    await this.#end('SIGKILL');
  }

  /** Starts the server and returns the address that it prints. */
  #serve(): Promise<string> {
    return new Promise((done, failed) => {
      const child = spawn(join(root, 'scripts/vitrine'), ['serve'], { cwd: root, env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
      this.#server = child;
      let said = '';
      this.listen(child, (text) => {
        said += text;
        const address = /http:\/\/(?:127\.0\.0\.1|localhost|\[::1\]):\d+\S*(?=\s)/.exec(said)?.[0];
        if (address !== undefined) done(address);
      });
      child.on('error', failed);
      child.on('exit', (code, signal) => {
        if (this.#server === child) this.#server = undefined;
        failed(new Error(`\`vitrine serve\` ended with ${signal ?? code} before it printed its address:\n${this.log}`));
      });
    });
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#server;
    this.#server = undefined;
    await endProcess(child, signal);
  }
}
