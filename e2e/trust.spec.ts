// What the page may not do: the policy refuses scripts, connections and frames that are not ours, and says so; no window opens, nobody
// navigates away. The fixtures fail every test on a violation that it did not provoke, as these do.
import { expect, test } from './fixtures.ts';
import { card, demoName } from './support/pages.ts';

test('the content security policy holds', async ({ app }) => {
  const { page } = app;
  await expect(card(page, demoName)).toBeVisible();
  app.allow(/Content Security Policy|content security policy/);
  const refused = await page.evaluate(async () => {
    const seen = new Set<string>();
    document.addEventListener('securitypolicyviolation', (event) => seen.add(event.effectiveDirective));
    const inline = document.createElement('script');
    inline.textContent = 'window.intruder = true';
    document.head.append(inline);
    const frame = document.createElement('iframe');
    frame.src = 'https://example.invalid/';
    document.body.append(frame);
    const image = new Image();
    image.src = 'https://example.invalid/x.png';
    await fetch('https://example.invalid/').catch(() => {});
    try {
      const socket = new WebSocket('ws://127.0.0.1:9/');
      socket.addEventListener('error', () => {});
    } catch {
      // Some versions throw, all of them report.
    }
    for (let i = 0; i < 50 && seen.size < 4; i++) await new Promise((done) => setTimeout(done, 100));
    frame.remove();
    return { directives: [...seen].sort(), intruder: 'intruder' in window };
  });
  expect(refused.intruder).toBe(false);
  expect(refused.directives).toEqual(expect.arrayContaining(['connect-src', 'frame-src', 'img-src', 'script-src-elem']));
});

test('the page has nothing of Node or Electron', async ({ app }) => {
  const { page } = app;
  await expect(card(page, demoName)).toBeVisible();
  const found = await page.evaluate(() => ['require', 'process', 'module', 'Buffer', 'ipcRenderer', 'electron'].filter((name) => name in window));
  expect(found).toEqual([]);
  const bridge = await page.evaluate(() => Object.keys((window as { vitrine?: object }).vitrine ?? {}).sort());
  expect(bridge).toEqual(app.shell === 'electron' ? ['frontAddress', 'onMenu', 'openWindow', 'pickFile', 'pickFolder', 'saveScreenshot', 'shell', 'token'] : []);
  // The token does not stay in the address, where a history would keep it.
  expect(page.url()).not.toContain('token');
});

test('nobody navigates away, and no window opens', async ({ app }) => {
  test.skip(app.shell === 'browser', 'In a browser tab the person goes where they like.');
  const { page } = app;
  await expect(card(page, demoName)).toBeVisible();
  const address = page.url();
  expect(await page.evaluate(() => window.open('https://example.invalid/'))).toBeNull();
  // Asked within the page: Playwright itself waits for a navigation that was begun, and this one is refused.
  const after = await page.evaluate(async () => {
    location.href = 'https://example.invalid/';
    await new Promise((done) => setTimeout(done, 1000));
    return { address: location.href, rows: document.querySelectorAll('[role=row]').length };
  });
  expect(after.address).toBe(address);
  expect(after.rows).toBeGreaterThan(0);
});
