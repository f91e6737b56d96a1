// What the shell hands to the page. In Electron the preload puts it on `window`; in a browser the page was opened with it in its
// address, from where it moves into the tab's own storage, so that the token stays out of the history.
import type { Bridge } from '../../shared/bridge.ts';

declare global {
  interface Window {
    vitrine?: Bridge;
  }
}

const KEY = 'vitrine.token';

function browserBridge(): Bridge {
  const address = new URL(location.href);
  const given = address.searchParams.get('token');
  if (given !== null) {
    sessionStorage.setItem(KEY, given);
    address.searchParams.delete('token');
    history.replaceState(null, '', address);
  }
  return {
    shell: 'browser',
    frontAddress: `ws://${location.host}`,
    token: sessionStorage.getItem(KEY) ?? '',
  };
}

export const bridge: Bridge = window.vitrine ?? browserBridge();
