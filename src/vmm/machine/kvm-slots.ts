// KVM's memslots and ioeventfds by name: what PCI commits make and remove, from whichever thread, under the topology lock.
import type { Arena } from '../sync/arena.ts';
import type { IoEvent, IoEvents, MemorySlot, MemorySlots } from '../pci/device.ts';
import type { Vm } from '../kvm/vm.ts';

/** RAM windows have the slots below this one. */
export const FIRST_NAMED_SLOT = 1024;
const NAMES = 1024;
const NAME_BYTES = 64; // a length, then Latin-1

/** Numbers for names, the same in every thread; a name keeps its number for the life of the machine. Used under the topology lock. */
class SharedNames {
  readonly #bytes: Uint8Array;
  readonly #known = new Map<string, number>();

  constructor(arena: Arena) {
    this.#bytes = arena.uint8('memslot.names', NAMES * NAME_BYTES);
  }

  #at(index: number): string {
    const at = index * NAME_BYTES;
    return String.fromCharCode(...this.#bytes.subarray(at + 1, at + 1 + this.#bytes[at]!));
  }

  /** By number, as many as there are. */
  all(): string[] {
    const names: string[] = [];
    for (let index = 0; index < NAMES && this.#bytes[index * NAME_BYTES] !== 0; index++) names.push(this.#at(index));
    return names;
  }

  number(name: string): number {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    if (name.length === 0 || name.length >= NAME_BYTES) throw new Error(`the name ${name} does not fit a memslot`);
    for (let index = 0; index < NAMES; index++) {
      const at = index * NAME_BYTES;
      if (this.#bytes[at] === 0) {
        this.#bytes[at] = name.length;
        for (let i = 0; i < name.length; i++) this.#bytes[at + 1 + i] = name.charCodeAt(i);
      } else if (this.#at(index) !== name) continue;
      this.#known.set(name, index);
      return index;
    }
    throw new Error(`all ${NAMES} names of memslots are in use`);
  }
}

export class KvmSlots implements MemorySlots {
  readonly #vm: Vm;
  readonly #names: SharedNames;
  /** 1 where a slot exists. */
  readonly #live: Uint8Array;

  constructor(arena: Arena, vm: Vm) {
    this.#vm = vm;
    this.#names = new SharedNames(arena);
    this.#live = arena.uint8('memslot.live', NAMES);
  }

  /** KVM's number of the slot `key`. */
  slot(key: string): number {
    return FIRST_NAMED_SLOT + this.#names.number(key);
  }

  /** The slots that exist now. */
  live(): string[] {
    return this.#names.all().filter((_, number) => this.#live[number] !== 0);
  }

  set(key: string, slot: MemorySlot): void {
    const number = this.#names.number(key);
    this.#vm.setMemoryRegion({ slot: FIRST_NAMED_SLOT + number, gpa: slot.gpa, size: slot.size, hva: slot.hva, dirtyLog: slot.dirtyLog, readonly: slot.readonly });
    this.#live[number] = 1;
  }

  remove(key: string): void {
    const number = this.#names.number(key);
    if (this.#live[number] === 0) return;
    this.#vm.setMemoryRegion({ slot: FIRST_NAMED_SLOT + number, gpa: 0, size: 0, hva: 0, dirtyLog: false, readonly: false });
    this.#live[number] = 0;
  }
}

export class KvmIoEvents implements IoEvents {
  readonly #vm: Vm;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  #wire(event: IoEvent, remove: boolean): void {
    this.#vm.ioeventfd({ eventfd: event.fd, address: event.address, width: event.length, io: event.space === 'io', match: event.datamatch, remove });
  }

  set(_key: string, event: IoEvent): void {
    this.#wire(event, false);
  }

  remove(_key: string, event: IoEvent): void {
    this.#wire(event, true);
  }
}
