// Where the person is: the address's hash, so that "back" works, and a machine can open in a window of its own.
import { useSyncExternalStore } from 'react';

export type MachineTab = 'screen' | 'console' | 'log' | 'devices';

/** The steps of giving devices to a machine, in order. */
export const GIVE_STEPS = ['choose', 'understand', 'review', 'done'] as const;
export type GiveStep = (typeof GIVE_STEPS)[number];

export type Route =
  | { page: 'machines' }
  | { page: 'computer' }
  /** With an address, the device that is looked at closely. */
  | { page: 'devices'; address?: string }
  | { page: 'machine'; id: string; tab: MachineTab }
  /** Giving devices to a machine; `groups` are the keys of those that are chosen. */
  | { page: 'give'; id: string; step: GiveStep; groups: string[] };

const tabs: readonly MachineTab[] = ['screen', 'console', 'log', 'devices'];

/**
 * `#/machines`, `#/computer`, `#/devices`, `#/devices/ADDRESS`, `#/machine/ID`, `#/machine/ID/console`, `#/give/ID`,
 * `#/give/ID/review/14,9`; anything else is the library.
 */
export function parseRoute(hash: string): Route {
  const [page, id, part, more] = hash.replace(/^#\/?/, '').split('/').map(safeDecode);
  if (page === 'computer') return { page: 'computer' };
  if (page === 'devices') return id === undefined || id === '' ? { page: 'devices' } : { page: 'devices', address: id };
  if (id === undefined || id === '') return { page: 'machines' };
  if (page === 'machine') return { page: 'machine', id, tab: tabs.find((known) => known === part) ?? 'screen' };
  if (page === 'give') {
    const groups = [...new Set((more ?? '').split(',').filter((key) => key !== ''))];
    const step = GIVE_STEPS.find((known) => known === part) ?? 'choose';
    // Without a choice there is nothing to understand.
    return { page: 'give', id, step: groups.length === 0 ? 'choose' : step, groups };
  }
  return { page: 'machines' };
}

export function hashOf(route: Route): string {
  if (route.page === 'devices' && route.address !== undefined) return `#/devices/${encodeURIComponent(route.address)}`;
  if (route.page === 'give') {
    const chosen = route.groups.length === 0 ? '' : `/${route.step}/${encodeURIComponent(route.groups.join(','))}`;
    return `#/give/${encodeURIComponent(route.id)}${chosen}`;
  }
  if (route.page !== 'machine') return `#/${route.page}`;
  const tab = route.tab === 'screen' ? '' : `/${route.tab}`;
  return `#/machine/${encodeURIComponent(route.id)}${tab}`;
}

export function go(route: Route): void {
  location.hash = hashOf(route);
}

/** Goes there without a way back to here: for what is a part of the same step. */
export function goInstead(route: Route): void {
  history.replaceState(null, '', hashOf(route));
  // By itself this tells nobody; and told at once, the next key press finds what this one has changed.
  dispatchEvent(new HashChangeEvent('hashchange'));
}

function safeDecode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function subscribe(changed: () => void): () => void {
  addEventListener('hashchange', changed);
  return () => removeEventListener('hashchange', changed);
}

let last = '';
let route: Route = { page: 'machines' };
let before: Route | null = null;

function snapshot(): Route {
  if (location.hash !== last) {
    last = location.hash;
    const next = parseRoute(last);
    if (next.page === 'give' && route.page !== 'give') before = route;
    route = next;
  }
  return route;
}

/** Where the person was before they began to give devices to this machine. */
export function beforeGiving(id: string): Route {
  return before ?? { page: 'machine', id, tab: 'screen' };
}

export function useRoute(): Route {
  return useSyncExternalStore(subscribe, snapshot);
}
