// The native menu. Most of its items are the page's own commands; the page has their shortcuts too, so that a guest that has the
// keyboard keeps every key. No letter is underlined: Alt belongs to the guest.
import type { MenuItemConstructorOptions } from 'electron';
import { BrowserWindow, Menu, app } from 'electron';
import type { MenuCommand } from '../../shared/bridge.ts';

function tell(command: MenuCommand): () => void {
  return () => BrowserWindow.getFocusedWindow()?.webContents.send('vitrine:menu', command);
}

/** The page's own F11, as if pressed: full screen wants a person's gesture. */
function pressF11(): void {
  const contents = BrowserWindow.getFocusedWindow()?.webContents;
  contents?.sendInputEvent({ type: 'keyDown', keyCode: 'F11' });
  contents?.sendInputEvent({ type: 'keyUp', keyCode: 'F11' });
}

/** An item whose shortcut the page hears by itself: shown here, registered there. */
function shown(label: string, accelerator: string, click: () => void): MenuItemConstructorOptions {
  return { label, accelerator, registerAccelerator: false, click };
}

export function setMenu(): void {
  const template: MenuItemConstructorOptions[] = [
    {
      label: 'Machine',
      submenu: [
        { label: 'New machine…', accelerator: 'Ctrl+N', click: tell('new-machine') },
        { label: 'Search machines', accelerator: 'Ctrl+F', click: tell('find') },
        { type: 'separator' },
        shown('Save a screenshot…', 'Ctrl+Shift+S', tell('screenshot')),
        { type: 'separator' },
        { label: 'Close window', accelerator: 'Ctrl+W', role: 'close' },
        { label: 'Quit, machines go on running', accelerator: 'Ctrl+Q', click: () => app.quit() },
      ],
    },
    { label: 'Edit', submenu: [{ role: 'undo' }, { role: 'redo' }, { type: 'separator' }, { role: 'cut' }, { role: 'copy' }, { role: 'paste' }, { role: 'selectAll' }] },
    {
      label: 'View',
      submenu: [
        { label: 'Machines', click: tell('machines') },
        { label: 'Devices', click: tell('devices') },
        { label: 'This computer', click: tell('computer') },
        { type: 'separator' },
        shown('Screen', 'Alt+1', tell('screen')),
        shown('Console', 'Alt+2', tell('console')),
        shown('Log', 'Alt+3', tell('log')),
        shown('Devices of the machine', 'Alt+4', tell('parts')),
        { type: 'separator' },
        { label: 'Scale to fit or 1:1', click: tell('scale') },
        shown('Full screen', 'F11', pressF11),
      ],
    },
    { label: 'Help', submenu: [shown('Keyboard shortcuts', '?', tell('shortcuts'))] },
  ];
  Menu.setApplicationMenu(Menu.buildFromTemplate(template));
}
