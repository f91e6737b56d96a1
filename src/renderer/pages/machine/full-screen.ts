// Full screen of one element, with the keys that a browser and a desktop otherwise keep (Escape, Alt+Tab, Super) locked to the page.
import { useCallback, useEffect, useMemo, useState } from 'react';
import type { RefObject } from 'react';

/** The Keyboard Lock API (WICG), which the library's types do not have. */
interface KeyboardLock {
  lock: () => Promise<void>;
  unlock: () => void;
}

function keyboardLock(): KeyboardLock | undefined {
  return (navigator as Navigator & { keyboard?: KeyboardLock }).keyboard;
}

export interface FullScreen {
  on: boolean;
  toggle: () => void;
}

export function useFullScreen(element: RefObject<HTMLElement | null>): FullScreen {
  const [on, setOn] = useState(false);
  useEffect(() => {
    const changed = (): void => {
      const now = document.fullscreenElement !== null && document.fullscreenElement === element.current;
      setOn(now);
      // Refused where the browser has no such lock or the window is not in front: Escape then leaves full screen.
      if (now) keyboardLock()?.lock().catch(() => {});
      else keyboardLock()?.unlock();
    };
    document.addEventListener('fullscreenchange', changed);
    return () => document.removeEventListener('fullscreenchange', changed);
  }, [element]);
  const toggle = useCallback(() => {
    if (document.fullscreenElement !== null) void document.exitFullscreen();
    else element.current?.requestFullscreen().catch(() => {});
  }, [element]);
  return useMemo(() => ({ on, toggle }), [on, toggle]);
}
