// The Electron shell: a front server of its own, the page from app://vitrine, windows and a menu. Machines are processes of their own:
// quitting, or a crash here, leaves them running.
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { BrowserWindow, app, dialog, ipcMain, session } from 'electron';
import { startFront } from '../front/front.ts';
import { topFolder } from '../install.ts';
import { ORIGIN, registerScheme, serveApp } from './app-protocol.ts';
import { fromOurPage, guardContents, guardSession } from './guard.ts';
import { setMenu } from './menu.ts';
import { Windows } from './windows.ts';

/** No screenshot is larger: 2560x1600 without any compression. */
const MOST_PNG = 32 * 2 ** 20;
const MACHINE_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;

registerScheme();
guardContents();

function answerPages(windows: Windows, front: { frontAddress: string; token: string }): void {
  // Asked by the preload before its document counts as the frame's, so its address says nothing yet. The preload has looked at it, and
  // only our own windows have a preload.
  ipcMain.on('vitrine:front', (event) => {
    event.returnValue = BrowserWindow.fromWebContents(event.sender) === null ? null : front;
  });

  ipcMain.handle('vitrine:save-screenshot', async (event, suggested: unknown, png: unknown) => {
    if (!fromOurPage(event) || typeof suggested !== 'string' || !(png instanceof Uint8Array) || png.byteLength > MOST_PNG) return null;
    const window = BrowserWindow.fromWebContents(event.sender);
    if (window === null) return null;
    const { filePath, canceled } = await dialog.showSaveDialog(window, {
      title: 'Save the screenshot',
      defaultPath: join(app.getPath('pictures'), basename(suggested)),
      filters: [{ name: 'PNG pictures', extensions: ['png'] }],
    });
    if (canceled || filePath === '') return null;
    await writeFile(filePath, png);
    return filePath;
  });

  const answerPick = (channel: string, property: 'openFile' | 'openDirectory') => ipcMain.handle(channel, async (event, title: unknown) => {
    if (!fromOurPage(event) || typeof title !== 'string') return null;
    const window = BrowserWindow.fromWebContents(event.sender);
    if (window === null) return null;
    const { filePaths, canceled } = await dialog.showOpenDialog(window, { title, properties: [property] });
    return canceled ? null : (filePaths[0] ?? null);
  });
  answerPick('vitrine:pick-file', 'openFile');
  answerPick('vitrine:pick-folder', 'openDirectory');

  ipcMain.handle('vitrine:open-window', (event, id: unknown) => {
    if (fromOurPage(event) && typeof id === 'string' && MACHINE_ID.test(id)) windows.showMachine(id);
  });
}

async function run(): Promise<void> {
  await app.whenReady();
  const top = topFolder();
  const front = await startFront({ origin: ORIGIN, shell: 'electron' });
  const windows = new Windows(join(top, 'out/preload/index.cjs'));

  serveApp(join(top, 'out/renderer'), front.address);
  guardSession(session.defaultSession);
  answerPages(windows, { frontAddress: front.address, token: front.token });
  setMenu();
  windows.showMain();

  app.on('second-instance', () => windows.showMain());
  app.on('window-all-closed', () => app.quit());
  // Not waited for: what the front holds goes with this process, and machines are none of it.
  app.on('will-quit', () => void front.close());
}

if (app.requestSingleInstanceLock()) {
  run().catch((thrown: unknown) => {
    const why = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    console.error(why);
    dialog.showErrorBox('Vitrine cannot start', why);
    app.exit(1);
  });
} else {
  app.quit();
}
