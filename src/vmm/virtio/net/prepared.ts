// What passes between the control thread and a network card's backend.

/** What was prepared of the host before the card was built (equip.ts). */
export type NetPrepared =
  /** The socket comes by mail, when passt serves. */
  | { readonly kind: 'user'; readonly mtu: number }
  /** A descriptor for each queue of the interface. */
  | { readonly kind: 'tap'; readonly name: string; readonly queues: readonly number[]; readonly mtu: number; readonly udpSegments: boolean }
  | { readonly kind: 'none' };

/** Answered with the link's state: { link: boolean }. */
export type NetMail =
  /** Somebody puts the cable in, or pulls it. */
  | { readonly kind: 'link'; readonly up: boolean }
  /** passt's socket from now on, or none; what was before is not touched any more. */
  | { readonly kind: 'connect'; readonly socket: number | null };
