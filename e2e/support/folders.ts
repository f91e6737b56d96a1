// A test's own XDG folders, in a short path: a Unix socket's path has at most 107 bytes. Downloads (the cache) are shared by all.
import { mkdirSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export class Folders {
  readonly top = mkdtempSync(join(tmpdir(), 'vt-'));
  readonly data = this.#make('data');
  readonly config = this.#make('config');
  readonly runtime = this.#make('run');
  readonly state = this.#make('state');

  #make(name: string): string {
    const path = join(this.top, name);
    mkdirSync(path, { mode: 0o700 });
    return path;
  }

  /** The environment for the app, with `more` on top. */
  environment(more: Record<string, string>): Record<string, string> {
    const given = Object.fromEntries(Object.entries(process.env).filter((pair): pair is [string, string] => pair[1] !== undefined && !pair[0].startsWith('npm_')));
    return {
      ...given,
      XDG_DATA_HOME: this.data,
      XDG_CONFIG_HOME: this.config,
      XDG_RUNTIME_DIR: this.runtime,
      XDG_STATE_HOME: this.state,
      XDG_CACHE_HOME: process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'),
      ...more,
    };
  }

  async remove(): Promise<void> {
    await rm(this.top, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}
