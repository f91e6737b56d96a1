// Where the person is: the address's hash, so that "back" works, and a machine can open in a window of its own.
import { useSyncExternalStore } from 'react';

export type MachineTab = 'screen' | 'console' | 'log';

export type Route =
  | { page: 'machines' }
  | { page: 'computer' }
  /** With an address, the device that is looked at closely. */
  | { page: 'devices'; address?: string }
  | { page: 'machine'; id: string; tab: MachineTab };

const tabs: readonly MachineTab[] = ['screen', 'console', 'log'];

/** `#/machines`, `#/computer`, `#/devices`, `#/devices/ADDRESS`, `#/machine/ID`, `#/machine/ID/console`; anything else is the library. */
export function parseRoute(hash: string): Route {
  const [page, id, tab] = hash.replace(/^#\/?/, '').split('/').map(safeDecode);
  if (page === 'computer') return { page: 'computer' };
  if (page === 'devices') return id === undefined || id === '' ? { page: 'devices' } : { page: 'devices', address: id };
  if (page === 'machine' && id !== undefined && id !== '') {
    return { page: 'machine', id, tab: tabs.find((known) => known === tab) ?? 'screen' };
  }
  return { page: 'machines' };
}

export function hashOf(route: Route): string {
  if (route.page === 'devices' && route.address !== undefined) return `#/devices/${encodeURIComponent(route.address)}`;
  if (route.page !== 'machine') return `#/${route.page}`;
  const tab = route.tab === 'screen' ? '' : `/${route.tab}`;
  return `#/machine/${encodeURIComponent(route.id)}${tab}`;
}

export function go(route: Route): void {
  location.hash = hashOf(route);
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

function snapshot(): Route {
  if (location.hash !== last) {
    last = location.hash;
    route = parseRoute(last);
  }
  return route;
}

export function useRoute(): Route {
  return useSyncExternalStore(subscribe, snapshot);
}
