// From a viewer's socket to a machine's: once the guard has let the request pass, the WebSocket handshake is said again to the machine
// process and everything after it goes through untouched, both ways, each side no faster than the other reads (stream.pipe). The token,
// the cookie and the origin stay here.
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';

/** RFC 6455 §4.1: 16 bytes in base64. */
const KEY = /^[+/0-9A-Za-z]{22}==$/;

/** Answers an upgrade request with plain HTTP and words, and ends it. */
export function refuseUpgrade(socket: Duplex, status: number, reason: string, words: string): void {
  const body = `${words}\n`;
  socket.on('error', () => {});
  socket.end(`HTTP/1.1 ${status} ${reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`);
}

/**
 * Pipes an upgrade request to the machine that serves one of `socketPaths`, tried in turn.
 * @param head what came after the request's headers already
 */
export function pipeToMachine(request: IncomingMessage, socket: Duplex, head: Buffer, socketPaths: readonly string[]): void {
  const key = request.headers['sec-websocket-key'];
  const version = request.headers['sec-websocket-version'];
  if (request.headers.upgrade?.toLowerCase() !== 'websocket' || key === undefined || !KEY.test(key) || version !== '13') {
    refuseUpgrade(socket, 400, 'Bad Request', 'This is no WebSocket handshake of version 13.');
    return;
  }
  if (socketPaths.length === 0) {
    refuseUpgrade(socket, 404, 'Not Found', 'The machine does not run.');
    return;
  }
  const [path, ...others] = socketPaths;
  const machine = connect(path);
  let piped = false;
  const give = () => {
    machine.destroy();
    socket.destroy();
  };
  socket.once('close', give);
  machine.on('error', () => {
    if (piped) {
      give();
      return;
    }
    socket.off('close', give);
    pipeToMachine(request, socket, head, others);
  });
  machine.once('connect', () => {
    piped = true;
    machine.write(`GET / HTTP/1.1\r\nHost: machine\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n\r\n`);
    if (head.length > 0) machine.write(head);
    socket.on('error', give);
    // An end on one side is passed on by pipe once all was written; a break takes the other side along.
    socket.pipe(machine);
    machine.pipe(socket);
  });
}
