// One WebSocket that keeps coming back: to the front, or through it to a machine. It opens, says so, and when the other side goes it
// tries again, quickly at first and every few seconds later, until it is closed. What a connection means is its owner's business.
import type { ProtocolSpec } from '../../shared/protocol/wire.ts';
import { ProtocolClient } from '../../shared/protocol/client.ts';
import { bridge } from './bridge.ts';

/** Milliseconds before each further attempt to reach the front; the last one repeats. */
export const FRONT_DELAYS: readonly number[] = [100, 300, 600, 1000, 2000, 3000];
/** To reach a machine: long enough for the library to say that it has ended, which stops the attempts. */
export const MACHINE_DELAYS: readonly number[] = [800, 1500, 3000];

export interface ConnectionEvents<P extends ProtocolSpec> {
  /** The socket is open: watch, attach. */
  onOpen: (client: ProtocolClient<P>) => void;
  /** The socket was lost, or could not be opened; another attempt follows. */
  onLost: () => void;
}

export interface Connection {
  /** Tries again at once instead of waiting. */
  retry: () => void;
  close: () => void;
}

/** @param path `/front` or `/machine/ID` */
export function connect<P extends ProtocolSpec>(spec: P, path: string, delays: readonly number[], events: ConnectionEvents<P>): Connection {
  let socket: WebSocket | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let attempts = 0;
  let closed = false;

  const open = (): void => {
    clearTimeout(timer);
    const mine = new WebSocket(`${bridge.frontAddress}${path}?token=${encodeURIComponent(bridge.token)}`);
    mine.binaryType = 'arraybuffer';
    socket = mine;
    const client = new ProtocolClient(spec, {
      // What is said while the other side is just going goes nowhere, and is no error.
      send: (data) => { if (mine.readyState === WebSocket.OPEN) mine.send(data); },
      close: () => mine.close(),
    });
    mine.addEventListener('open', () => {
      if (closed) return;
      attempts = 0;
      events.onOpen(client);
    });
    mine.addEventListener('message', (event: MessageEvent<string | ArrayBuffer>) => client.receive(event.data));
    // A refused connection also ends in 'close'; its 'error' has nothing to say.
    mine.addEventListener('close', () => {
      client.closed();
      if (closed || socket !== mine) return;
      socket = null;
      timer = setTimeout(open, delays[Math.min(attempts++, delays.length - 1)]);
      events.onLost();
    });
  };

  const retry = (): void => {
    if (closed || socket !== null) return;
    attempts = 0;
    open();
  };

  open();
  return {
    retry,
    close: () => {
      closed = true;
      clearTimeout(timer);
      socket?.close();
    },
  };
}
