// What the network cards of a machine need while they work, on the control thread: passt for those that have their network of the user's own.
import { VitrineError } from '../../shared/errors.ts';
import type { Forward } from '../net/passt-program.ts';
import { UserNetwork } from '../net/passt.ts';
import type { VirtioDescription } from '../virtio/description.ts';
import { virtioModel } from '../virtio/models.ts';
import type { NetMail } from '../virtio/net/prepared.ts';

const MAC_BYTES = 6;

/** A message for a device's backend; resolves with its answer. */
export type ToBackend = (message: NetMail) => Promise<unknown>;

interface Entry {
  network: UserNetwork | null;
  ended: boolean;
}

export class Networks {
  readonly #options: { readonly name: string; log(text: string): void };
  readonly #entries = new Map<number, Entry>();

  constructor(options: { readonly name: string; log(text: string): void }) {
    this.#options = options;
  }

  /** Resolves when the card has its network. Rejects with a VitrineError. */
  async begin({ slot, config, machine }: VirtioDescription, send: ToBackend): Promise<void> {
    if (config.kind !== 'virtio-net' || config.backend.kind !== 'user') return;
    const { name, log } = this.#options;
    const entry: Entry = { network: null, ended: false };
    this.#entries.set(slot, entry);
    const network = await UserNetwork.start({
      name, log, forwards: config.backend.forwards,
      mac: virtioModel(config, machine.id, slot).config.slice(0, MAC_BYTES),
      use: async (socket) => {
        if (!entry.ended) await send({ kind: 'connect', socket });
      },
    });
    if (entry.ended) network.close();
    else entry.network = network;
  }

  /** Rejects with a VitrineError, with the forwards before in place. */
  async forward(slot: number, forwards: readonly Forward[]): Promise<void> {
    const network = this.#entries.get(slot)?.network ?? null;
    if (network === null) {
      throw new VitrineError({ attempted: 'forward ports to the guest', on: this.#options.name, why: `the device in slot ${slot} is no network card with a network of the user's own.`, remedy: 'Only such cards have forwarded ports.', code: 'no-user-network' });
    }
    await network.forward(forwards);
  }

  /** The card's Worker has let go of it. */
  end(slot: number): void {
    const entry = this.#entries.get(slot);
    if (entry === undefined) return;
    this.#entries.delete(slot);
    entry.ended = true;
    entry.network?.close();
  }

  close(): void {
    for (const slot of this.#entries.keys()) this.end(slot);
  }
}
