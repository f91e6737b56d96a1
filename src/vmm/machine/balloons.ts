// A machine's balloon on the control thread: how much memory the guest has and shall have, and what it says of it. With several, the first counts.
import { VitrineError } from '../../shared/errors.ts';
import type { BalloonState, GuestMemoryStats } from '../../shared/protocol/machine.ts';
import type { BalloonMail } from '../virtio/balloon/backend.ts';
import type { DeviceNews } from '../virtio/news.ts';

export interface BalloonsOptions {
  readonly name: string;
  /** To the device's backend. Rejects with what cannot be done, and when the device is gone. */
  send(slot: number, mail: BalloonMail): Promise<unknown>;
  /** Undefined: there is none. */
  changed(state: BalloonState | undefined): void;
}

interface Balloon {
  readonly state: BalloonState;
  readonly guest: GuestMemoryStats | undefined;
}

export class Balloons {
  readonly #o: BalloonsOptions;
  readonly #balloons = new Map<number, Balloon>();
  #watched = false;

  constructor(options: BalloonsOptions) {
    this.#o = options;
  }

  /** What a device says. @returns whether it was a balloon's word */
  told(slot: number, news: DeviceNews): boolean {
    if (news.kind !== 'balloon') return false;
    const before = this.#balloons.get(slot);
    const { target, actual, off, guest } = news;
    this.#balloons.set(slot, { state: { target, actual, off }, guest });
    if (before === undefined) {
      // The gate may have moved between its birth and this word.
      this.#tell(slot, { kind: 'balloon-gate' });
      if (this.#watched) this.#tell(slot, { kind: 'balloon-watch', on: true });
    }
    if (before === undefined || before.state.target !== target || before.state.actual !== actual || before.state.off !== off) this.#changed();
    return true;
  }

  gone(slot: number): void {
    if (this.#balloons.delete(slot)) this.#changed();
  }

  #changed(): void {
    this.#o.changed(this.#first?.[1].state);
  }

  get #first(): [number, Balloon] | undefined {
    return [...this.#balloons].sort(([a], [b]) => a - b)[0];
  }

  #tell(slot: number, mail: BalloonMail): void {
    this.#o.send(slot, mail).catch(() => {}); // it is gone
  }

  /** Whether pages may be given back has changed (DropGate). */
  gateMoved(): void {
    for (const slot of this.#balloons.keys()) this.#tell(slot, { kind: 'balloon-gate' });
  }

  /** Statistics are wanted, or not any more. */
  watch(on: boolean): void {
    this.#watched = on;
    for (const slot of this.#balloons.keys()) this.#tell(slot, { kind: 'balloon-watch', on });
  }

  /** What the guest said last. */
  get guest(): GuestMemoryStats | undefined {
    return this.#first?.[1].guest;
  }

  /** Asks the guest to keep `bytes` of its memory. Rejects with a VitrineError when there is no balloon, or it is off. */
  async set(bytes: number): Promise<void> {
    const first = this.#first;
    if (first === undefined) {
      throw new VitrineError({ attempted: 'change the guest\'s memory', on: this.#o.name, why: 'it has no balloon.', remedy: 'Add one: vitrine device add NAME virtio-balloon.', code: 'no-balloon' });
    }
    await this.#o.send(first[0], { kind: 'balloon', bytes });
  }
}
