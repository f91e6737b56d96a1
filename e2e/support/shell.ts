// What Vitrine runs in for a test, Electron or a browser, and what both do alike.
import type { ChildProcess } from 'node:child_process';
import type { Page } from '@playwright/test';
import type { Folders } from './folders.ts';
import type { Watch } from './watch.ts';

export abstract class Shell {
  abstract readonly kind: 'electron' | 'browser';
  readonly folders: Folders;
  readonly env: Record<string, string>;
  /** What the app wrote to its output so far. */
  log = '';
  protected readonly watch: Watch;
  /** The first window's page, once there is one. */
  protected first: Page | undefined;

  constructor(folders: Folders, env: Record<string, string>, watch: Watch) {
    this.folders = folders;
    this.env = env;
    this.watch = watch;
  }

  abstract get running(): boolean;

  get page(): Page {
    return this.there(this.first);
  }

  abstract start(): Promise<void>;
  /** Quits the app in order. */
  abstract stop(): Promise<void>;
  /** SIGKILL. */
  abstract kill(): Promise<void>;
  /** The next window or tab that opens. */
  abstract nextPage(): Promise<Page>;
  /** Ends the app and what belongs to the shell itself, such as the browser. */
  abstract close(): Promise<void>;

  /** What is there only while the app runs. */
  protected there<T>(part: T | undefined): T {
    if (part === undefined) throw new Error('The app does not run.');
    return part;
  }

  /** Makes this page the first window's. */
  protected show(page: Page): void {
    this.first = page;
    this.watch.add(page);
  }

  /** Keeps what a process writes. @param told of each piece of its standard output */
  protected listen({ stdout, stderr }: ChildProcess, told: (text: string) => void = () => {}): void {
    const note = (text: string): void => { this.log += text; };
    stdout?.setEncoding('utf8').on('data', note).on('data', told);
    stderr?.setEncoding('utf8').on('data', note);
  }
}

/** Sends a signal to a process and waits for its end, whatever that is due to. */
export async function endProcess(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((done) => { child.once('exit', () => done()); });
  child.kill(signal);
  await gone;
}
