// Where the main window was, kept between starts. A place that no display shows any more is forgotten.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { BrowserWindow, Rectangle } from 'electron';
import { screen } from 'electron';

export interface WindowState {
  bounds: Rectangle;
  maximized: boolean;
}

/** Milliseconds after the last move before the place is written down. */
const SETTLED = 400;
/** So much of the window must be on a display, in pixels each way. */
const VISIBLE = 80;

function isRectangle(value: unknown): value is Rectangle {
  if (typeof value !== 'object' || value === null) return false;
  const { x, y, width, height } = value as Record<string, unknown>;
  return [x, y, width, height].every(Number.isInteger) && (width as number) >= 400 && (height as number) >= 300;
}

/** What a file's text says, or null when it says nothing of use. */
export function parseState(text: string): WindowState | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || !('bounds' in value) || !isRectangle(value.bounds)) return null;
    const { x, y, width, height } = value.bounds;
    return { bounds: { x, y, width, height }, maximized: 'maximized' in value && value.maximized === true };
  } catch {
    return null;
  }
}

export function loadState(path: string): WindowState | null {
  let state: WindowState | null;
  try {
    state = parseState(readFileSync(path, 'utf8'));
  } catch {
    return null;
  }
  if (state === null) return null;
  const { x, y, width, height } = state.bounds;
  const seen = screen.getAllDisplays().some(({ workArea: area }) => {
    const across = Math.min(x + width, area.x + area.width) - Math.max(x, area.x);
    const down = Math.min(y + height, area.y + area.height) - Math.max(y, area.y);
    return across >= VISIBLE && down >= VISIBLE;
  });
  return seen ? state : null;
}

/** Writes the window's place down whenever it has settled, and when it closes. */
export function keepState(window: BrowserWindow, path: string): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const write = (): void => {
    clearTimeout(timer);
    if (window.isDestroyed() || window.isFullScreen()) return;
    const state: WindowState = { bounds: window.getNormalBounds(), maximized: window.isMaximized() };
    try {
      writeFileSync(`${path}.new`, JSON.stringify(state));
      renameSync(`${path}.new`, path);
    } catch {
      // A folder that cannot be written to costs the window its place, nothing more.
    }
  };
  const later = (): void => {
    clearTimeout(timer);
    timer = setTimeout(write, SETTLED);
  };
  window.on('resize', later);
  window.on('move', later);
  window.on('close', write);
}
