// What a handler of one kind of message gets: the share, the request's fields, the reply's, and the memory of both.
import type { Bytes } from './bytes.ts';
import type { Share } from './share.ts';
import type { Reader, Writer } from './wire.ts';

export interface Call {
  readonly share: Share;
  readonly request: Reader;
  readonly reply: Writer;
  /** Guest memory that holds the request, all of it. Only data that goes into a file is used there. */
  readable: Bytes;
  /** Guest memory for the reply, at most a message's size. Only data that comes from a file is put there by a handler. */
  writable: Bytes;
  /** Bytes behind the reply's fields that a handler has put into `writable`. */
  data: number;
}

/** Answers a message: fields into `reply`. @returns 0, or minus a Linux error number, which becomes an Rlerror. Never throws for what a guest sends. */
export type Handler = (call: Call) => number;
