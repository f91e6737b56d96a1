// What the two shells have in common for a test.
import type { Page } from '@playwright/test';
import type { Folders } from './folders.ts';

export interface Shell {
  readonly kind: 'electron' | 'browser';
  readonly folders: Folders;
  readonly env: Record<string, string>;
  /** What the app wrote to its output so far. */
  readonly log: string;
  readonly running: boolean;
  readonly page: Page;
  start(): Promise<void>;
  /** Quits the app in order. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** The next window or tab that opens. */
  nextPage(): Promise<Page>;
  /** Ends the app and what belongs to the shell itself, such as the browser. */
  close(): Promise<void>;
}
