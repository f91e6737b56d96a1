// Listens to every page: an error on the console (a violation of the content security policy is one), an uncaught exception and a
// crashed page are problems, unless the test allowed them or has just taken the app away.
import type { Page } from '@playwright/test';

/** What a page says when the server behind it is gone, which some tests bring about. */
const loss = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_SOCKET_NOT_CONNECTED|ERR_EMPTY_RESPONSE|WebSocket connection to .* failed|WebSocket is already/;

export class Watch {
  readonly #problems: string[] = [];
  readonly #allowed: RegExp[] = [];
  readonly #pages = new WeakSet<Page>();
  #lossExpected = false;

  add(page: Page): void {
    if (this.#pages.has(page)) return;
    this.#pages.add(page);
    page.on('console', (message) => {
      if (message.type() === 'error') this.#note(`console: ${message.text()} (${message.location().url})`);
    });
    page.on('pageerror', (error) => this.#note(`uncaught: ${error.stack ?? error.message}`));
    page.on('crash', () => this.#note('the page crashed'));
  }

  /** While the app is stopped or killed, lost connections are no problem. */
  expectLoss(expected: boolean): void {
    this.#lossExpected = expected;
  }

  allow(pattern: RegExp): void {
    this.#allowed.push(pattern);
  }

  problems(): string[] {
    return this.#problems.filter((text) => !this.#allowed.some((pattern) => pattern.test(text)));
  }

  #note(text: string): void {
    if (this.#lossExpected && loss.test(text)) return;
    this.#problems.push(text);
  }
}
