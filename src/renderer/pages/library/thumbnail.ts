// The guest's screen on a card: a screenshot every few seconds of a machine that runs, one of a machine that is paused, and the last
// one known of a machine that failed. Only cards in view ask, and none while the window is hidden.
import { useEffect, useSyncExternalStore } from 'react';
import { fromBase64 } from '../../client/base64.ts';
import { machineLink } from '../../client/machine-link.ts';
import type { LibraryState } from '../../state/machines.ts';

/** Milliseconds between two screenshots of one machine. */
const EVERY = 5000;

const pictures = new Map<string, string>();
const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function setPicture(id: string, url: string | null): void {
  const old = pictures.get(id);
  if (old === undefined && url === null) return;
  if (url === null) pictures.delete(id);
  else pictures.set(id, url);
  for (const listener of listeners) listener();
  // The image that shows the old one has loaded it long ago; it only must not be asked for again.
  if (old !== undefined) setTimeout(() => URL.revokeObjectURL(old), 1000);
}

function pngUrl(base64: string): string {
  return URL.createObjectURL(new Blob([fromBase64(base64)], { type: 'image/png' }));
}

/** The picture's address, or null while there is none. */
export function useThumbnail(id: string, state: LibraryState, hasScreen: boolean): string | null {
  useEffect(() => {
    if (state === 'off' || state === 'starting') setPicture(id, null);
    if (!hasScreen || (state !== 'running' && state !== 'paused')) return;
    const link = machineLink(id);
    const release = link.hold();
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async (): Promise<void> => {
      try {
        if (!document.hidden) {
          const { png } = await (await link.opened()).call('screenshot', {});
          if (!over) setPicture(id, pngUrl(png));
        }
      } catch {
        // A machine that shows nothing yet, or is just going: its card says so.
      }
      if (!over && (state === 'running' || !pictures.has(id))) timer = setTimeout(() => void look(), EVERY);
    };
    void look();
    return () => {
      over = true;
      clearTimeout(timer);
      release();
    };
  }, [id, state, hasScreen]);
  return useSyncExternalStore(subscribe, () => pictures.get(id) ?? null);
}
