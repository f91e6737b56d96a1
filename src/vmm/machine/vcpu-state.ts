// What each vCPU says of itself in the arena, and how others stop it. Two reasons to stand still: a commit that swaps memory slots
// (short, by whichever vCPU or thread holds topology) and a pause (by the control thread). Each is a word; a vCPU stays parked while either is set.
// A commit only needs that no other vCPU runs guest code: one that is in a handler, perhaps waiting for a mutex that the committer holds, is
// as good as parked, because immediate_exit is set and it looks at the words before it enters again. A pause needs every last exit completed.
import koffi from 'koffi';
import type { Arena } from '../sync/arena.ts';
import { PoisonedError } from '../sync/mutex.ts';
import { Boots } from './boots.ts';

/** Words of one vCPU; native/vcpu.c has them too. */
const THREAD = 0;
const STATE = 1;
const EXITS = 2;
const ACKNOWLEDGED = 3; // the number of the last pause that this vCPU stood still for
const IO_EXITS = 4;
const MEMORY_EXITS = 5;
const MAIL = 6; // 1: something waits for this vCPU's thread beside its states
const WORDS = 16; // a cache line

export const OFFLINE = 0;
export const IN_GUEST = 1;
export const HANDLING = 2;
export const PARKED = 3;

const LOOK_AGAIN_MS = 2;
/** A handler takes microseconds, a guest's largest transfer some seconds; a vCPU that does not stop in this time never will. */
const PATIENCE_MS = 60_000;

export class VcpuStates {
  readonly count: number;
  readonly #words: Int32Array;
  /** Word 0: a commit wants them parked; 1: the number of the pause that does, or 0; 2: stop for ever; 3: pauses so far. */
  readonly #wanted: Int32Array;
  readonly #poison: Int32Array;
  readonly #boots: Boots;
  /** immediate_exit bytes of every vCPU's kvm_run. */
  readonly #immediateExit: readonly Uint8Array[];
  readonly #signal: (thread: number) => void;
  #onMail: () => void = () => {};

  constructor(arena: Arena, immediateExit: readonly Uint8Array[], signal: (thread: number) => void) {
    this.count = immediateExit.length;
    this.#words = arena.int32('vcpu.words', WORDS * this.count);
    this.#wanted = arena.int32('vcpu.wanted', 4);
    this.#poison = arena.poison;
    this.#boots = new Boots(arena);
    this.#immediateExit = immediateExit;
    this.#signal = signal;
  }

  // What a vCPU's thread says.

  enter(id: number, thread: number): void {
    Atomics.store(this.#words, id * WORDS + THREAD, thread);
    this.set(id, HANDLING);
  }

  set(id: number, state: number): void {
    Atomics.store(this.#words, id * WORDS + STATE, state);
    if (state === PARKED || state === OFFLINE) Atomics.notify(this.#words, id * WORDS + STATE);
  }

  get(id: number): number {
    return Atomics.load(this.#words, id * WORDS + STATE);
  }

  /** Where a vCPU's words lie, for native/vcpu.c: it notes IN_GUEST and HANDLING around KVM_RUN, and counts exits. */
  address(id: number): number {
    return Number(koffi.address(this.#words)) + id * WORDS * 4;
  }

  /** Exits of a vCPU since it began, each modulo 2^32. */
  exits(id: number): { all: number; io: number; memory: number } {
    const at = id * WORDS;
    return { all: this.#words[at + EXITS]! >>> 0, io: this.#words[at + IO_EXITS]! >>> 0, memory: this.#words[at + MEMORY_EXITS]! >>> 0 };
  }

  /** The thread that runs a vCPU, 0 before it began. */
  thread(id: number): number {
    return Atomics.load(this.#words, id * WORDS + THREAD);
  }

  /** What this thread does when mail waits: with no lock held, between two exits. */
  listen(onMail: () => void): void {
    this.#onMail = onMail;
  }

  /** After EINTR: clears the request, then stands still while anybody wants it. @returns false when the thread must end. */
  obey(id: number): boolean {
    Atomics.store(this.#immediateExit[id]!, 0, 0);
    for (;;) {
      if (Atomics.load(this.#wanted, 2) !== 0 || Atomics.load(this.#poison, 0) !== 0) return false;
      if (Atomics.exchange(this.#words, id * WORDS + MAIL, 0) !== 0) this.#onMail();
      const commit = Atomics.load(this.#wanted, 0);
      const pause = Atomics.load(this.#wanted, 1);
      if (commit === 0 && pause === 0) return true;
      this.set(id, PARKED);
      if (pause !== 0) this.#acknowledge(id, pause);
      Atomics.wait(this.#wanted, pause !== 0 ? 1 : 0, pause !== 0 ? pause : commit, 1000);
      this.set(id, HANDLING);
    }
  }

  /** For a vCPU that cannot go on by itself (triple fault): parked until the guest boots again, over any pauses. @returns as obey. */
  standStill(id: number): boolean {
    const boot = this.#boots.number;
    while (this.obey(id)) {
      if (this.#boots.number !== boot) return true;
      this.set(id, PARKED);
      Atomics.wait(this.#wanted, 1, 0, 1000);
    }
    return false;
  }

  /** pause() waits for this, so no pause is ever missed, however short. */
  #acknowledge(id: number, pause: number): void {
    Atomics.store(this.#words, id * WORDS + ACKNOWLEDGED, pause);
    Atomics.notify(this.#words, id * WORDS + ACKNOWLEDGED);
  }

  // What others do to it.

  kick(id: number): void {
    Atomics.store(this.#immediateExit[id]!, 0, 1);
    if (this.get(id) === IN_GUEST) this.#signal(Atomics.load(this.#words, id * WORDS + THREAD));
  }

  /** Has a vCPU's thread look for its mail, running or parked: soon, and at a point where it holds nothing. */
  sendMail(id: number): void {
    Atomics.store(this.#words, id * WORDS + MAIL, 1);
    this.#wake();
    this.kick(id);
  }

  /** Kicks a vCPU until `done`, looking whenever its word changes. */
  #until(id: number, word: number, done: (value: number) => boolean): void {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      const value = Atomics.load(this.#words, id * WORDS + word);
      if (done(value) || this.get(id) === OFFLINE) return;
      if (Atomics.load(this.#poison, 0) !== 0) throw new PoisonedError(`vCPU ${id}`);
      if (performance.now() > end) throw new Error(`CPU ${id} does not stop: its thread is gone, or KVM does not let go of it`);
      this.kick(id);
      Atomics.wait(this.#words, id * WORDS + word, value, LOOK_AGAIN_MS);
    }
  }

  /** Stops every vCPU but `self` (-1: none is the caller's) for a commit. The caller holds the topology lock. */
  parkForCommit(self: number): void {
    Atomics.store(this.#wanted, 0, 1);
    for (let id = 0; id < this.count; id++) if (id !== self) this.kick(id);
    for (let id = 0; id < this.count; id++) if (id !== self) this.#until(id, STATE, (state) => state !== IN_GUEST);
  }

  releaseCommit(): void {
    Atomics.store(this.#wanted, 0, 0);
    Atomics.notify(this.#wanted, 0);
  }

  /** Stops every vCPU with its last exit completed. Control thread only. */
  pause(): void {
    const pause = (Atomics.add(this.#wanted, 3, 1) + 1) & 0x7fffffff || 1;
    Atomics.store(this.#wanted, 1, pause);
    Atomics.notify(this.#wanted, 1);
    for (let id = 0; id < this.count; id++) this.kick(id);
    for (let id = 0; id < this.count; id++) this.#until(id, ACKNOWLEDGED, (acknowledged) => acknowledged === pause);
  }

  /** As `pause` before any vCPU's thread runs: each stands still as it comes. */
  holdBeforeStart(): void {
    Atomics.store(this.#wanted, 1, Atomics.add(this.#wanted, 3, 1) + 1);
  }

  resume(): void {
    Atomics.store(this.#wanted, 1, 0);
    Atomics.notify(this.#wanted, 1);
  }

  /** Has every vCPU thread end its loop; they are OFFLINE afterwards. */
  stop(): void {
    Atomics.store(this.#wanted, 2, 1);
    this.#wake();
    for (let id = 0; id < this.count; id++) this.kick(id);
  }

  #wake(): void {
    Atomics.notify(this.#wanted, 0);
    Atomics.notify(this.#wanted, 1);
  }

  /** Waits until every vCPU thread left its loop, or gives up after `milliseconds`. @returns whether all did. */
  joined(milliseconds: number): boolean {
    const end = performance.now() + milliseconds;
    for (let id = 0; id < this.count; id++) {
      for (;;) {
        const state = this.get(id);
        if (state === OFFLINE) break;
        if (performance.now() > end) return false;
        this.kick(id);
        this.#wake(); // it may have looked just before stop()
        Atomics.wait(this.#words, id * WORDS + STATE, state, LOOK_AGAIN_MS);
      }
    }
    return true;
  }
}
