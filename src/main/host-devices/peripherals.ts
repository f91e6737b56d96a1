// What is plugged in and sounds: keyboards and pointers, other USB devices, sound cards that play.
import type { Use } from '../../shared/host-devices.ts';
import { classDevices, listed, listedUpTo, ownerOf } from './owner.ts';
import type { HostRoots } from './roots.ts';
import { names, real, text } from './roots.ts';

/** include/uapi/linux/input-event-codes.h: a keyboard has letters and a pointer has buttons; power buttons and jacks have neither. */
const KEY_A = 30;
const KEY_SPACE = 57;
const BTN_LEFT = 0x110;
const BTN_TOUCH = 0x14a;
const WORD = 64n;
const USB_CLASS_HUB = '09';
const SHOWN = 4;

function collect(): { by: Map<string, Set<string>>; add: (owner: string | undefined, what: string) => void } {
  const by = new Map<string, Set<string>>();
  return {
    by,
    add(owner, what) {
      if (owner === undefined) return;
      const set = by.get(owner) ?? new Set<string>();
      by.set(owner, set.add(what));
    },
  };
}

function clean(name: string): string {
  return name.replaceAll(/\p{C}/gu, '').replaceAll(/\s+/g, ' ').trim();
}

/** Whether an input device has a key: capabilities/key has words in hexadecimal, the highest keys first. */
function hasKey(path: string, code: number): boolean {
  const all = (text(path, 'capabilities/key') ?? '').split(/\s+/).reverse();
  const word = all[Math.floor(code / Number(WORD))] ?? '';
  return /^[0-9a-f]{1,16}$/i.test(word) && ((BigInt(`0x${word}`) >> (BigInt(code) % WORD)) & 1n) === 1n;
}

function inputs(roots: HostRoots): Map<string, Use[]> {
  const kinds = collect();
  const titles = collect();
  for (const { path, name, owner } of classDevices(roots, 'input')) {
    if (!/^input\d+$/.test(name)) continue;
    const keyboard = hasKey(path, KEY_A) && hasKey(path, KEY_SPACE);
    const pointer = hasKey(path, BTN_LEFT) || hasKey(path, BTN_TOUCH);
    if (!pointer && !keyboard) continue;
    if (keyboard) kinds.add(owner, 'keyboard');
    if (pointer) kinds.add(owner, 'pointer');
    titles.add(owner, clean(text(path, 'name') ?? name));
  }
  return new Map([...kinds.by].map(([owner, set]) => {
    const words = [set.has('keyboard') ? 'keyboard' : '', set.has('pointer') ? 'mouse' : ''].filter(Boolean);
    return [owner, [{ kind: 'input', sentence: `Your ${listed(words)} ${words.length === 1 ? 'is' : 'are'} plugged into this.`, detail: [...titles.by.get(owner)!].sort().join(', ') }]];
  }));
}

function usb(roots: HostRoots): Map<string, Use[]> {
  const found = collect();
  for (const name of names(roots.sys, 'bus/usb/devices')) {
    if (!/^\d+-[\d.]+$/.test(name)) continue;
    const path = real(roots.sys, 'bus/usb/devices', name);
    if (path === undefined || text(path, 'bDeviceClass') === USB_CLASS_HUB) continue;
    found.add(ownerOf(path), clean(text(path, 'product') ?? '') || `USB device ${name}`);
  }
  return new Map([...found.by].map(([owner, set]) => {
    const titles = [...set].sort();
    const sentence = titles.length === 1 ? `The USB device ${titles[0]} is plugged into this.` : `${titles.length} USB devices are plugged into this.`;
    return [owner, [{ kind: 'usb', sentence, detail: listedUpTo(SHOWN, titles) }]];
  }));
}

function sound(roots: HostRoots): Map<string, Use[]> {
  const playing = collect();
  for (const { name, owner } of classDevices(roots, 'sound')) {
    if (!/^card\d+$/.test(name)) continue;
    for (const stream of names(roots.proc, 'asound', name)) {
      if (!stream.startsWith('pcm')) continue;
      for (const sub of names(roots.proc, 'asound', name, stream)) {
        const status = sub.startsWith('sub') ? text(roots.proc, 'asound', name, stream, sub, 'status') : undefined;
        if (status !== undefined && status !== 'closed') playing.add(owner, `${name} ${stream}`);
      }
    }
  }
  return new Map([...playing.by].map(([owner, set]) => [owner, [{ kind: 'sound', sentence: 'Sound runs over this.', detail: [...set].join(', ') }]]));
}

/** Uses by PCI function, the more pressing first. */
export function peripheralUses(roots: HostRoots): Map<string, Use[]>[] {
  return [inputs(roots), usb(roots), sound(roots)];
}
