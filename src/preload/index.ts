// The one bridge between a page and Electron. The page is sandboxed and isolated; what it gets is this object and nothing else.
import { contextBridge, ipcRenderer } from 'electron';
import type { Bridge, MenuCommand } from '../shared/bridge.ts';

const ORIGIN = 'app://vitrine';

/** Asked for at once, so that the page has it before its first line runs. Not by arguments: those stand in /proc for everybody. */
function askForFront(): { frontAddress: string; token: string } | null {
  return location.href.startsWith(`${ORIGIN}/`) ? (ipcRenderer.sendSync('vitrine:front') as { frontAddress: string; token: string } | null) : null;
}

function bridgeTo(front: { frontAddress: string; token: string }): Bridge {
  return {
    shell: 'electron',
    ...front,
    saveScreenshot: (suggestedName, png) => ipcRenderer.invoke('vitrine:save-screenshot', suggestedName, png) as Promise<string | null>,
    pickFile: (title) => ipcRenderer.invoke('vitrine:pick-file', title) as Promise<string | null>,
    pickFolder: (title) => ipcRenderer.invoke('vitrine:pick-folder', title) as Promise<string | null>,
    openWindow: (machineId) => ipcRenderer.invoke('vitrine:open-window', machineId) as Promise<void>,
    onMenu: (listener) => {
      const heard = (_event: unknown, command: MenuCommand): void => listener(command);
      ipcRenderer.on('vitrine:menu', heard);
      return () => { ipcRenderer.off('vitrine:menu', heard); };
    },
  };
}

const front = askForFront();
if (front !== null) contextBridge.exposeInMainWorld('vitrine', bridgeTo(front));
