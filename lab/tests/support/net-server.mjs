// Runs in the lab as root: what guests talk to. node net-server.mjs FILE ADDRESS…   Says "ready", then a line for each thing that happened.
//   7001/tcp  takes a line with a number, then so many bytes, and answers with their MD5
//   7002/tcp  FILE by HTTP          53/udp  every name's address is 192.0.2.77
//   7009/tcp  on 127.0.0.1 alone: a service of the host's own
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, isIPv6 } from 'node:net';

const [file, ...addresses] = process.argv.slice(2);
const content = readFileSync(file);
const say = (line) => process.stdout.write(`${line}\n`);

const sink = () => createServer((socket) => {
  let got = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    got = Buffer.concat([got, chunk]);
    const line = got.indexOf('\n');
    if (line < 0 || got.length < line + 1 + Number(got.subarray(0, line))) return;
    socket.end(`${createHash('md5').update(got.subarray(line + 1)).digest('hex')}\n`);
  });
});
const source = () => createServer((socket) => {
  socket.on('error', () => {});
  socket.once('data', () => socket.end(Buffer.concat([Buffer.from(`HTTP/1.0 200 OK\r\nContent-Length: ${content.length}\r\n\r\n`), content])));
});
/** RFC 1035 §4.1: the question as it came, and one answer of type A. */
const names = (type) => {
  const socket = createSocket(type);
  return socket.on('message', (question, from) => {
    const isA = question.at(-3) === 1;
    const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
    const header = Buffer.from(question);
    header.writeUInt16BE(0x8180, 2);
    header.writeUInt16BE(isA ? 1 : 0, 6);
    socket.send(isA ? Buffer.concat([header, answer]) : header, from.port, from.address);
  });
};

for (const address of addresses) {
  for (const [server, port] of [[sink(), 7001], [source(), 7002]]) await once(server.listen(port, address), 'listening');
  await once(names(isIPv6(address) ? 'udp6' : 'udp4').bind(53, address), 'listening');
}
await once(createServer((socket) => { say('the loopback was reached'); socket.destroy(); }).listen(7009, '127.0.0.1'), 'listening');
say('ready');
