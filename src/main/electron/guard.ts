// What no page may do, whatever got into it: leave, open windows, embed, or ask for more than a machine's window needs.
import type { IpcMainEvent, IpcMainInvokeEvent, Session } from 'electron';
import { app } from 'electron';
import { ORIGIN } from './app-protocol.ts';

const allowed = new Set(['pointerLock', 'fullscreen', 'keyboardLock', 'clipboard-sanitized-write']);

function isOurs(url: string): boolean {
  return url === ORIGIN || url.startsWith(`${ORIGIN}/`);
}

export function guardSession(session: Session): void {
  session.setPermissionRequestHandler((_contents, permission, answer, details) => answer(allowed.has(permission) && isOurs(details.requestingUrl)));
  session.setPermissionCheckHandler((_contents, permission, origin) => allowed.has(permission) && isOurs(origin));
}

/** Holds for every window that will ever be made. */
export function guardContents(): void {
  app.on('web-contents-created', (_event, contents) => {
    contents.on('will-navigate', (event) => event.preventDefault());
    contents.on('will-redirect', (event) => event.preventDefault());
    contents.on('will-attach-webview', (event) => event.preventDefault());
    contents.setWindowOpenHandler(() => ({ action: 'deny' }));
  });
}

/** Whether a message comes from the main frame of our own page. */
export function fromOurPage(event: IpcMainEvent | IpcMainInvokeEvent): boolean {
  const frame = event.senderFrame;
  return frame !== null && frame.parent === null && isOurs(frame.url);
}
