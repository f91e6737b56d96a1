// The front, cached: the library and the host as they are watched, and whether the front answers.
import { create } from 'zustand';
import { VitrineError, toProblem } from '../../shared/errors.ts';
import type { Problem } from '../../shared/errors.ts';
import type { ProtocolClient } from '../../shared/protocol/client.ts';
import { frontProtocol } from '../../shared/protocol/front.ts';
import type { FrontProtocol, Host, Library } from '../../shared/protocol/front.ts';
import { FRONT_DELAYS, connect } from '../client/connection.ts';
import type { Connection } from '../client/connection.ts';

interface FrontState {
  /** 'connecting' until the first answer; 'offline' when the front went away. What was known last is kept. */
  status: 'connecting' | 'online' | 'offline';
  machines: Library | null;
  host: Host | null;
  /** Why a watch ended, if one did. */
  problem: Problem | null;
}

export const useFront = create<FrontState>(() => ({ status: 'connecting', machines: null, host: null, problem: null }));

let connection: Connection | null = null;
let client: ProtocolClient<FrontProtocol> | null = null;

/** Attempts that failed before the page says "offline" for the first time. */
const PATIENCE = 3;

/** Milliseconds in which many changes of the library become one: 500 machines may all change at once. */
const TOGETHER = 60;

/** Calls `apply` with the newest value, the first time at once and then at most once in TOGETHER. */
function together<T>(apply: (value: T) => void): (value: T) => void {
  let newest: { value: T } | null = null;
  let waiting = false;
  const next = (): void => {
    waiting = newest !== null;
    if (newest === null) return;
    apply(newest.value);
    newest = null;
    setTimeout(next, TOGETHER);
  };
  return (value) => {
    newest = { value };
    if (!waiting) next();
  };
}

export function startFront(): void {
  let failures = 0;
  connection = connect(frontProtocol, '/front', FRONT_DELAYS, {
    onOpen: (opened) => {
      client = opened;
      failures = 0;
      const onEnd = (problem: Problem): void => {
        if (problem.code !== 'connection-lost') useFront.setState({ problem });
      };
      opened.watch('machines', together((machines: Library) => useFront.setState({ machines, status: 'online', problem: null })), onEnd);
      opened.watch('host', (host) => useFront.setState({ host }), onEnd);
    },
    onLost: () => {
      client = null;
      failures++;
      if (useFront.getState().status === 'online' || failures >= PATIENCE) useFront.setState({ status: 'offline' });
    },
  });
}

/** Tries the front again at once. */
export function retryFront(): void {
  connection?.retry();
}

/** The open client. Throws a VitrineError while the front is away. */
export function front(): ProtocolClient<FrontProtocol> {
  if (client === null) {
    throw new VitrineError({
      attempted: 'reach Vitrine\'s own server', on: '', code: 'offline',
      why: 'The window has lost its connection. Machines that run go on running.', remedy: 'Start Vitrine again if this stays so.',
    });
  }
  return client;
}

/** Any thrown value as the problem to show. */
export function problemOf(thrown: unknown, attempted: string, on: string): Problem {
  return toProblem(thrown, attempted, on);
}
