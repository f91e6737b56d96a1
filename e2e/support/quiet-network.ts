// Playwright listens to every WebSocket message of a page, in base64 over the debugger's pipe. A guest that draws sends hundreds of
// megabytes a minute there, and what a test asks waits behind them until it times out. Playwright has no switch for it; this turns off
// what it turned on, on its own connection to the page. Navigation, the console and exceptions are reported as before.
import type { Page } from '@playwright/test';

/** What is needed of Playwright's inside: client and server share a process here. */
interface Inside {
  _connection?: { toImpl?: (page: Page) => { delegate?: { _mainFrameSession?: { _client?: { send: (method: string) => Promise<unknown> } } } } | undefined };
}

export async function quietNetwork(page: Page): Promise<void> {
  const client = (page as unknown as Inside)._connection?.toImpl?.(page)?.delegate?._mainFrameSession?._client;
  if (client === undefined) throw new Error('This Playwright keeps its connection to the page elsewhere: e2e/support/quiet-network.ts must follow.');
  await client.send('Network.disable');
}
