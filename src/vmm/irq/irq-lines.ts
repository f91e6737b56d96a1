// Level-sensitive inputs that several functions share: for each GSI a mask of who asserts it, in the arena. The ioctl is issued under the
// irq lock, so that levels reach KVM in the order in which the masks changed.
import type { Arena } from '../sync/arena.ts';
import type { Mutex } from '../sync/mutex.ts';
import type { IrqLine } from '../devices/device.ts';

const GSIS = 24;
const OWNERS = 32; // bits of a mask

/** What the lines need of KVM. */
export interface IrqChip {
  irqLine(gsi: number, level: boolean): void;
}

export class IrqLines {
  readonly #arena: Arena;
  readonly #lock: Mutex;
  /** One mask of owners per GSI. */
  readonly #masks: Int32Array;
  /** Bits handed out per GSI. */
  readonly #given: Int32Array;
  readonly #chip: IrqChip;
  readonly #control: boolean;
  readonly #lines = new Map<string, IrqLine>();

  constructor(arena: Arena, chip: IrqChip, control: boolean) {
    this.#arena = arena;
    this.#chip = chip;
    this.#control = control;
    this.#lock = arena.mutex('irq.lock');
    this.#masks = arena.int32('irq.masks', GSIS);
    this.#given = arena.int32('irq.given', GSIS);
  }

  /** The line of `owner` into `gsi`: the same bit in every thread. Throws for a GSI outside the IOAPIC or a 33rd owner. */
  line(gsi: number, owner: string): IrqLine {
    const name = `irq.${gsi}.${owner}`;
    const known = this.#lines.get(name);
    if (known !== undefined) return known;
    if (!Number.isInteger(gsi) || gsi < 0 || gsi >= GSIS) throw new Error(`GSI ${gsi} of ${owner} is outside the IOAPIC`);
    const slot = this.#arena.int32(name, 1); // 0: not given yet, else bit + 1
    if (slot[0] === 0 && this.#control) {
      const bit = this.#given[gsi]!;
      if (bit >= OWNERS) throw new Error(`GSI ${gsi} has ${OWNERS} owners already; ${owner} cannot share it`);
      this.#given[gsi] = bit + 1;
      slot[0] = bit + 1;
    }
    const bit = 1 << (slot[0]! - 1);
    const line: IrqLine = { set: (level) => this.#set(gsi, bit, level) };
    this.#lines.set(name, line);
    return line;
  }

  #set(gsi: number, bit: number, level: boolean): void {
    // An owner's bit changes under its device's mutex only, so this look needs no lock.
    if (((Atomics.load(this.#masks, gsi) & bit) !== 0) === level) return;
    this.#lock.lock();
    try {
      const before = this.#masks[gsi]!;
      const after = level ? before | bit : before & ~bit;
      this.#masks[gsi] = after;
      if ((before !== 0) !== (after !== 0)) this.#chip.irqLine(gsi, after !== 0);
    } finally {
      this.#lock.unlock();
    }
  }

  /** Lets go of everything, for a reset with no vCPU running. */
  reset(): void {
    this.#lock.run(() => {
      for (let gsi = 0; gsi < GSIS; gsi++) {
        if (this.#masks[gsi] !== 0) this.#chip.irqLine(gsi, false);
        this.#masks[gsi] = 0;
      }
    });
  }
}
