// What the person chose for this window, kept in the browser's own storage: the theme, how the screen is scaled.
import { create } from 'zustand';

export type ThemeChoice = 'system' | 'light' | 'dark';
export type ScaleChoice = 'fit' | 'exact';

interface Preferences {
  theme: ThemeChoice;
  scale: ScaleChoice;
  setTheme: (theme: ThemeChoice) => void;
  setScale: (scale: ScaleChoice) => void;
}

const KEY = 'vitrine.preferences';

function load(): { theme: ThemeChoice; scale: ScaleChoice } {
  const chosen: { theme: ThemeChoice; scale: ScaleChoice } = { theme: 'system', scale: 'fit' };
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    if (typeof kept !== 'object' || kept === null) return chosen;
    if ('theme' in kept && (kept.theme === 'light' || kept.theme === 'dark')) chosen.theme = kept.theme;
    if ('scale' in kept && kept.scale === 'exact') chosen.scale = kept.scale;
  } catch {
    // Storage that is refused or spoilt means the defaults.
  }
  return chosen;
}

function keep(theme: ThemeChoice, scale: ScaleChoice): void {
  try {
    localStorage.setItem(KEY, JSON.stringify({ theme, scale }));
  } catch {
    // The choice then holds for this window only.
  }
}

export const usePreferences = create<Preferences>((set, get) => ({
  ...load(),
  setTheme: (theme) => { set({ theme }); keep(theme, get().scale); },
  setScale: (scale) => { set({ scale }); keep(get().theme, scale); },
}));

/** Puts the chosen theme on the page, now and whenever it changes here or in another window. */
export function followTheme(): void {
  const apply = (theme: ThemeChoice): void => {
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  apply(usePreferences.getState().theme);
  usePreferences.subscribe((now) => apply(now.theme));
  addEventListener('storage', (event) => { if (event.key === KEY) usePreferences.setState(load()); });
}
