// Run in the lab as the ordinary user: an authentication agent of polkit for one process, as a desktop has one for its session, whose person closes
// each question without an answer. polkit-agent.ts PID; says "registered", and "dismissed ACTION" for each. Of D-Bus (its specification, version
// 0.43) it speaks what that needs: strings, numbers and the one dictionary of a polkit subject, in little-endian byte order.
import { readFileSync } from 'node:fs';
import net from 'node:net';

const [METHOD_CALL, METHOD_RETURN, ERROR] = [1, 2, 3] as const;
/** Codes of header fields. */
const [PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE] = [1, 2, 3, 4, 5, 6, 7, 8] as const;
const FIXED = 16;
const POLKIT = 'org.freedesktop.PolicyKit1';

class Writer {
  bytes: number[] = [];

  align(to: number): this {
    while (this.bytes.length % to !== 0) this.bytes.push(0);
    return this;
  }

  /** A number of 4 or 8 bytes, below 2^53. */
  number(value: number, size: 4 | 8 = 4): this {
    this.align(size);
    for (let at = 0, rest = value; at < size; at++, rest = Math.floor(rest / 256)) this.bytes.push(rest % 256);
    return this;
  }

  string(text: string): this {
    const encoded = Buffer.from(text);
    this.number(encoded.length).bytes.push(...encoded, 0);
    return this;
  }

  signature(text: string): this {
    this.bytes.push(text.length, ...Buffer.from(text), 0);
    return this;
  }

  /** An array whose elements begin at multiples of 8: its length counts from the first one. */
  array(write: () => void): this {
    const length = this.number(0).bytes.length - 4;
    const from = this.align(8).bytes.length;
    write();
    const size = this.bytes.length - from;
    for (let at = 0; at < 4; at++) this.bytes[length + at] = (size >>> (8 * at)) & 0xff;
    return this;
  }
}

let serial = 0;

function message(type: number, fields: [code: number, signature: string, value: string | number][], signature: string, body: Writer): Buffer {
  const head = new Writer();
  head.bytes.push('l'.charCodeAt(0), type, 0, 1);
  head.number(body.bytes.length).number(++serial);
  head.array(() => {
    for (const [code, kind, value] of [...fields, ...(signature === '' ? [] : [[SIGNATURE, 'g', signature] as [number, string, string]])]) {
      head.align(8).bytes.push(code);
      head.signature(kind);
      if (kind === 'g') head.signature(value as string);
      else if (typeof value === 'number') head.number(value);
      else head.string(value);
    }
  });
  return Buffer.from([...head.align(8).bytes, ...body.bytes]);
}

const call = (destination: string, path: string, name: string, member: string, signature = '', body = new Writer()): Buffer =>
  message(METHOD_CALL, [[PATH, 'o', path], [INTERFACE, 's', name], [MEMBER, 's', member], [DESTINATION, 's', destination]], signature, body);

/** The strings and numbers among a message's header fields, by their codes. */
function fieldsOf(bytes: Buffer): Map<number, string | number> {
  const found = new Map<number, string | number>();
  const end = FIXED + bytes.readUInt32LE(12);
  for (let at = FIXED; at < end; at = Math.ceil(at / 8) * 8) {
    const code = bytes[at]!;
    const kind = String.fromCharCode(bytes[at + 2]!);
    at += 4;
    if (kind === 'u') {
      found.set(code, bytes.readUInt32LE(at));
      at += 4;
    } else {
      const length = kind === 'g' ? bytes[at]! : bytes.readUInt32LE(at);
      at += kind === 'g' ? 1 : 4;
      found.set(code, bytes.toString('utf8', at, at + length));
      at += length + 1;
    }
  }
  return found;
}

/** In the 22nd field of /proc/PID/stat; the second may have spaces. */
function startTime(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')[19]);
}

function register(pid: number): Buffer {
  const body = new Writer();
  body.string('unix-process').array(() => {
    body.align(8).string('pid').signature('u').number(pid);
    body.align(8).string('start-time').signature('t').number(startTime(pid), 8);
  });
  body.string('C').string('/agent');
  return call(POLKIT, `/${POLKIT.replaceAll('.', '/')}/Authority`, `${POLKIT}.Authority`, 'RegisterAuthenticationAgent', '(sa{sv})ss', body);
}

const pid = Number(process.argv[2]);
const socket = net.connect('/run/dbus/system_bus_socket');
let pending: Buffer = Buffer.alloc(0);
let begun = false;

function take(bytes: Buffer): void {
  const fields = fieldsOf(bytes);
  const [type, number] = [bytes[1], bytes.readUInt32LE(8)];
  if (type === ERROR) throw new Error(`${String(fields.get(ERROR_NAME))}: ${bytes.toString('latin1')}`);
  if (type === METHOD_RETURN && fields.get(REPLY_SERIAL) === 2) console.log('registered');
  if (type !== METHOD_CALL) return;
  const reply: [number, string, string | number][] = [[REPLY_SERIAL, 'u', number], [DESTINATION, 's', fields.get(SENDER)!]];
  if (fields.get(MEMBER) !== 'BeginAuthentication') {
    socket.write(message(METHOD_RETURN, reply, '', new Writer()));
    return;
  }
  const body = Math.ceil((FIXED + bytes.readUInt32LE(12)) / 8) * 8;
  console.log(`dismissed ${bytes.toString('utf8', body + 4, body + 4 + bytes.readUInt32LE(body))}`);
  socket.write(message(ERROR, [...reply, [ERROR_NAME, 's', `${POLKIT}.Error.Cancelled`]], 's', new Writer().string('closed')));
}

socket.on('data', (chunk: Buffer) => {
  pending = Buffer.concat([pending, chunk]);
  if (!begun) {
    if (!pending.includes('\r\n')) return;
    if (!pending.toString().startsWith('OK')) throw new Error(pending.toString());
    pending = Buffer.alloc(0);
    begun = true;
    socket.write('BEGIN\r\n');
    socket.write(call('org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', 'Hello'));
    socket.write(register(pid));
    return;
  }
  while (pending.length >= FIXED) {
    const size = Math.ceil((FIXED + pending.readUInt32LE(12)) / 8) * 8 + pending.readUInt32LE(4);
    if (pending.length < size) return;
    take(pending.subarray(0, size));
    pending = pending.subarray(size);
  }
});
socket.write(`\0AUTH EXTERNAL ${Buffer.from(String(process.getuid!())).toString('hex')}\r\n`);
process.stdin.on('end', () => process.exit()).resume();
