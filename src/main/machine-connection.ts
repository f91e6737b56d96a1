// A connection to a running machine's socket, for the launcher, the front and the CLI.
import { connect } from 'node:net';
import { WebSocket } from 'ws';
import { VitrineError } from '../shared/errors.ts';
import { ProtocolClient } from '../shared/protocol/client.ts';
import type { MachineProtocol } from '../shared/protocol/machine.ts';
import { machineProtocol } from '../shared/protocol/machine.ts';

/** Messages up to this size are taken: a whole frame of 2560x1600 is 16 MiB. */
const MAX_MESSAGE = 64 * 2 ** 20;

export interface MachineConnection {
  readonly client: ProtocolClient<MachineProtocol>;
  /** Resolves when the connection is gone, whoever closed it. */
  readonly closed: Promise<void>;
  close(): void;
}

/** Connects to the machine that serves `socketPath`. Rejects with code "no-machine" when none does. */
export function connectMachine(socketPath: string): Promise<MachineConnection> {
  return new Promise((resolve, reject) => {
    // The address names nobody: the connection is the socket's.
    const socket = new WebSocket('ws://machine/', { createConnection: () => connect(socketPath), perMessageDeflate: false, maxPayload: MAX_MESSAGE });
    const client = new ProtocolClient(machineProtocol, socket);
    let open = false;
    const closed = new Promise<void>((gone) => {
      socket.on('close', () => {
        client.closed();
        gone();
      });
    });
    socket.on('error', (error) => {
      if (open) return;
      reject(new VitrineError({ attempted: 'reach the machine', on: socketPath, why: `it does not answer (${error.message}).`, remedy: '', code: 'no-machine' }, { cause: error }));
    });
    socket.on('open', () => {
      open = true;
      resolve({ client, closed, close: () => client.close() });
    });
    socket.on('message', (data: Buffer, isBinary) => client.receive(isBinary ? Uint8Array.from(data) : data.toString('utf8')));
  });
}
