// Combinations that the person's own desktop would keep for itself, to be sent from a menu. Codes are evdev's.
import {
  KEY_BACKSPACE, KEY_DELETE, KEY_ESC, KEY_F1, KEY_LEFTALT, KEY_LEFTCTRL, KEY_LEFTMETA, KEY_PAUSE, KEY_SYSRQ, KEY_TAB, evdevOf,
} from '../../../shared/keys.ts';

export interface Combination {
  text: string;
  codes: number[];
}

function letter(name: string): number {
  const code = evdevOf(name);
  if (code === null) throw new Error(`no such key: ${name}`);
  return code;
}

/** Ctrl+Alt+F1 to F7: the guest's virtual terminals. */
const terminals: Combination[] = Array.from({ length: 7 }, (_, i) => ({ text: `Ctrl+Alt+F${i + 1}`, codes: [KEY_LEFTCTRL, KEY_LEFTALT, KEY_F1 + i] }));

export const combinationGroups: Array<{ heading: string; combinations: Combination[] }> = [
  {
    heading: 'Combinations',
    combinations: [
      { text: 'Ctrl+Alt+Del', codes: [KEY_LEFTCTRL, KEY_LEFTALT, KEY_DELETE] },
      { text: 'Ctrl+Alt+Backspace', codes: [KEY_LEFTCTRL, KEY_LEFTALT, KEY_BACKSPACE] },
      { text: 'Alt+Tab', codes: [KEY_LEFTALT, KEY_TAB] },
      { text: 'Ctrl+Esc', codes: [KEY_LEFTCTRL, KEY_ESC] },
    ],
  },
  { heading: 'Virtual terminals', combinations: terminals },
  {
    heading: 'Single keys',
    combinations: [
      { text: 'Super', codes: [KEY_LEFTMETA] },
      { text: 'Print', codes: [KEY_SYSRQ] },
      { text: 'Pause', codes: [KEY_PAUSE] },
    ],
  },
  {
    heading: 'Magic SysRq of Linux',
    combinations: [
      { text: 'SysRq+H (help)', codes: [KEY_LEFTALT, KEY_SYSRQ, letter('KeyH')] },
      { text: 'SysRq+S (write disks)', codes: [KEY_LEFTALT, KEY_SYSRQ, letter('KeyS')] },
      { text: 'SysRq+B (reboot at once)', codes: [KEY_LEFTALT, KEY_SYSRQ, letter('KeyB')] },
    ],
  },
];
