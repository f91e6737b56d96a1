// The guest's screen as a PNG file: by a dialog in Electron, as a download in a browser.
import { bridge } from '../../client/bridge.ts';
import { fromBase64 } from '../../client/base64.ts';
import { machineLink } from '../../client/machine-link.ts';
import { problemOf } from '../../state/front.ts';
import { reportTrouble, sayDone } from '../../state/troubles.ts';

/** `Debian lab 2026-11-22 14.05.09.png`, without what file systems dislike. */
export function screenshotName(name: string, now: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  const time = `${two(now.getHours())}.${two(now.getMinutes())}.${two(now.getSeconds())}`;
  const safe = name.replaceAll(/[/\\:*?"<>|\p{Cc}]/gu, '-').slice(0, 80).trim();
  return `${safe} ${day} ${time}.png`;
}

export async function saveScreenshot(id: string, name: string): Promise<void> {
  const link = machineLink(id);
  const release = link.hold();
  try {
    const { png } = await (await link.opened()).call('screenshot', {});
    const bytes = fromBase64(png);
    const fileName = screenshotName(name, new Date());
    if (bridge.saveScreenshot !== undefined) {
      const path = await bridge.saveScreenshot(fileName, bytes);
      if (path !== null) sayDone(`Saved to ${path}`);
      return;
    }
    const url = URL.createObjectURL(new Blob([bytes], { type: 'image/png' }));
    const anchor = document.createElement('a');
    anchor.href = url;
    anchor.download = fileName;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    sayDone(`Saved as ${fileName} where your browser keeps downloads.`);
  } catch (thrown) {
    reportTrouble(problemOf(thrown, 'save a screenshot', name), id);
  } finally {
    release();
  }
}
