// A network card's address (IEEE 802): six bytes, of which the first says that it is one station's and given out locally, by nobody's registry.
import { createHash } from 'node:crypto';
import { VitrineError } from '../../shared/errors.ts';

export const MAC_BYTES = 6;
const GROUP = 0x01;
const LOCAL = 0x02;
/** Six bytes in hexadecimal, with colons between. */
export const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

/** "52:54:00:12:34:56" */
export function macText(mac: Uint8Array): string {
  return [...mac].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** The address of the card in `slot` of a machine: the same at every start, and hardly that of any other machine. */
export function derivedMac(machine: string, slot: number): Uint8Array {
  const mac = new Uint8Array(createHash('sha256').update(`vitrine network card ${machine} ${slot}`).digest().subarray(0, MAC_BYTES));
  mac[0] = (mac[0]! & ~GROUP) | LOCAL;
  return mac;
}

/** Reads an address that somebody gave. Throws VitrineError for what no card can have. */
export function givenMac(text: string): Uint8Array {
  const refuse = (why: string): never => {
    throw new VitrineError({ attempted: 'give the network card an address', on: text, why, remedy: 'Give one like 52:54:00:12:34:56, or none: then the machine has one of its own.', code: 'bad-mac' });
  };
  if (!MAC.test(text)) return refuse('a MAC address is six bytes in hexadecimal with colons between.');
  const mac = Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
  if ((mac[0]! & GROUP) !== 0) return refuse('the lowest bit of its first byte says that it is the address of a group.');
  if (mac.every((byte) => byte === 0)) return refuse('all zeroes are no address.');
  return mac;
}
