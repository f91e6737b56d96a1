// A small AML encoder: the ACPI Machine Language of ACPI 6.5 §20, as far as our tables use it. Every function returns bytes; a table's
// body is their concatenation. Names are checked where they are encoded, so that a typing error shows in the first test and not in a guest.

/** Encoded AML. */
export type Aml = Uint8Array;
/** What may stand where AML wants data or an expression: a number or string is encoded as such. */
export type Term = Aml | number | string;

const op = (...bytes: number[]): Aml => Uint8Array.from(bytes);

export function concat(parts: readonly Aml[]): Aml {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function little(value: number, bytes: number): Aml {
  const out = new Uint8Array(bytes);
  for (let i = 0, left = value; i < bytes; i++, left = Math.floor(left / 256)) out[i] = left % 256;
  return out;
}

/** §20.2.4: the length of a package counts itself; 1 to 4 bytes. */
function withLength(prefix: Aml, body: Aml): Aml {
  for (let extra = 0; extra < 4; extra++) {
    const length = body.length + 1 + extra;
    if (extra === 0 ? length >= 64 : length >= 2 ** (4 + 8 * extra)) continue;
    const lead = extra === 0 ? op(length) : concat([op((extra << 6) | (length % 16)), little(Math.floor(length / 16), extra)]);
    return concat([prefix, lead, body]);
  }
  throw new RangeError(`an AML package of ${body.length} bytes is too long`);
}

/** A length inside a field list has no body. */
function bareLength(bits: number): Aml {
  if (bits < 64) return op(bits);
  for (let extra = 1; extra < 4; extra++) if (bits < 2 ** (4 + 8 * extra)) return concat([op((extra << 6) | (bits % 16)), little(Math.floor(bits / 16), extra)]);
  throw new RangeError(`a field of ${bits} bits is too long`);
}

function segment(text: string): Aml {
  if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(text)) throw new RangeError(`"${text}" is no AML name`);
  return new TextEncoder().encode(text.padEnd(4, '_'));
}

/** A name: "_STA", "\\_SB.PCI0", "^LPC.PRQA". */
export function path(text: string): Aml {
  const [, prefix, rest] = /^(\\|\^*)(.*)$/.exec(text)!;
  const head = new TextEncoder().encode(prefix);
  if (rest === '') return concat([head, op(0)]);
  const parts = rest!.split('.').map(segment);
  const count = parts.length === 1 ? [] : parts.length === 2 ? [op(0x2e)] : [op(0x2f, parts.length)];
  return concat([head, ...count, ...parts]);
}

/** The shortest form of an unsigned integer up to 2^53. */
export function integer(value: number): Aml {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no unsigned integer`);
  if (value <= 1) return op(value);
  if (value < 2 ** 8) return op(0x0a, value);
  if (value < 2 ** 16) return concat([op(0x0b), little(value, 2)]);
  if (value < 2 ** 32) return concat([op(0x0c), little(value, 4)]);
  return concat([op(0x0e), little(value, 8)]);
}

function string(text: string): Aml {
  return concat([op(0x0d), new TextEncoder().encode(text), op(0)]);
}

const term = (value: Term): Aml => (typeof value === 'number' ? integer(value) : typeof value === 'string' ? string(value) : value);
const terms = (values: readonly Term[]): Aml => concat(values.map(term));

export function buffer(bytes: Uint8Array): Aml {
  return withLength(op(0x11), concat([integer(bytes.length), bytes]));
}

export function packageOf(...elements: Term[]): Aml {
  if (elements.length > 255) throw new RangeError('a package holds at most 255 elements');
  return withLength(op(0x12), concat([op(elements.length), terms(elements)]));
}

// Named objects (§20.2.5.2).
export const name = (where: string, value: Term): Aml => concat([op(0x08), path(where), term(value)]);
export const scope = (where: string, ...body: Term[]): Aml => withLength(op(0x10), concat([path(where), terms(body)]));
export const device = (where: string, ...body: Term[]): Aml => withLength(op(0x5b, 0x82), concat([path(where), terms(body)]));
/** @param args 0 to 7. Serialized methods may create names. */
export const method = (where: string, args: number, serialized: boolean, ...body: Term[]): Aml =>
  withLength(op(0x14), concat([path(where), op(args | (serialized ? 8 : 0)), terms(body)]));

export const REGION_IO = 1;
export const REGION_PCI_CONFIG = 2;
export const operationRegion = (where: string, space: number, offset: number, length: number): Aml =>
  concat([op(0x5b, 0x80), path(where), op(space), integer(offset), integer(length)]);
export const BYTE_ACCESS = 1;
export const DWORD_ACCESS = 3;
/** No lock, what is around is preserved. @param fields name and width in bits, in order. */
export const field = (region: string, fields: readonly (readonly [string, number])[], access = BYTE_ACCESS): Aml =>
  withLength(op(0x5b, 0x81), concat([path(region), op(access), ...fields.map(([label, bits]) => concat([segment(label), bareLength(bits)]))]));

// Expressions and statements (§20.2.5.3, §20.2.5.4).
export const local = (n: number): Aml => op(0x60 + n);
export const arg = (n: number): Aml => op(0x68 + n);
const NO_TARGET = op(0);
export const store = (value: Term, target: Aml): Aml => concat([op(0x70), term(value), target]);
export const and = (a: Term, b: Term, target: Aml = NO_TARGET): Aml => concat([op(0x7b), term(a), term(b), target]);
export const or = (a: Term, b: Term, target: Aml = NO_TARGET): Aml => concat([op(0x7d), term(a), term(b), target]);
export const equal = (a: Term, b: Term): Aml => concat([op(0x93), term(a), term(b)]);
export const not = (a: Term): Aml => concat([op(0x92), term(a)]);
export const ifThen = (condition: Term, ...body: Term[]): Aml => withLength(op(0xa0), concat([term(condition), terms(body)]));
export const otherwise = (...body: Term[]): Aml => withLength(op(0xa1), terms(body));
export const decrement = (target: Aml): Aml => concat([op(0x76), target]);
export const bothTrue = (a: Term, b: Term): Aml => concat([op(0x90), term(a), term(b)]);
export const whileTrue = (condition: Term, ...body: Term[]): Aml => withLength(op(0xa2), concat([term(condition), terms(body)]));
/** Notify (§19.6.95): tells the system of an event on a device. */
export const notify = (where: string, value: Term): Aml => concat([op(0x86), path(where), term(value)]);
export const sleep = (milliseconds: Term): Aml => concat([op(0x5b, 0x22), term(milliseconds)]);
/** Calls a method of a known number of arguments. */
export const call = (where: string, ...args: Term[]): Aml => concat([path(where), terms(args)]);
export const returning = (value: Term): Aml => concat([op(0xa4), term(value)]);
export const dwordField = (source: Term, byte: number, label: string): Aml => concat([op(0x8a), term(source), integer(byte), path(label)]);

/** EISAID("PNP0A08"): three letters of five bits, four hexadecimal digits, in an odd byte order (§19.3.4). */
export function eisaId(id: string): Aml {
  if (!/^[A-Z]{3}[0-9A-F]{4}$/.test(id)) throw new RangeError(`"${id}" is no EISA id`);
  const letter = (i: number): number => id.charCodeAt(i) - 0x40;
  const big = letter(0) * 2 ** 26 + letter(1) * 2 ** 21 + letter(2) * 2 ** 16 + Number.parseInt(id.slice(3), 16);
  return integer(new DataView(little(big, 4).buffer).getUint32(0, false));
}

/** ToUUID (§19.6.142): the first three groups little-endian. */
export function uuid(text: string): Aml {
  const digits = text.replaceAll('-', '');
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return buffer(Uint8Array.from(order, (i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16)));
}
