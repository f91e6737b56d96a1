// The registers of a virtio device as every thread sees them: words in the arena. The vCPUs' threads write them under the device's mutex, as the
// driver says; the device's I/O Worker reads them, and answers in three words of its own (RESET, PAUSE and each queue's RESET), so that it never
// needs the mutex for that: a vCPU that waits for the Worker holds it.
import type { Arena } from '../sync/arena.ts';
import { NO_VECTOR, STATUS_NEEDS_RESET } from './constants.ts';

/** 128 feature bits. */
export const FEATURE_WORDS = 4;

// Words of the device.
const DEVICE_SELECT = 0;
const DRIVER_SELECT = 1;
const DRIVER_FEATURES = 2;
const DEVICE_FEATURES = DRIVER_FEATURES + FEATURE_WORDS;
const CONFIG_VECTOR = DEVICE_FEATURES + FEATURE_WORDS;
const STATUS = CONFIG_VECTOR + 1;
const GENERATION = STATUS + 1;
const QUEUE_SELECT = GENERATION + 1;
const ISR = QUEUE_SELECT + 1;
/** 1 from DRIVER_OK until the Worker has let go of the driver. */
const SESSION = ISR + 1;
const RESET = SESSION + 1;
const PAUSE = RESET + 1; // last: see clear()
const DEVICE_WORDS = PAUSE + 1;

// Words of a queue.
const SIZE = 0;
const VECTOR = 1;
const ENABLED = 2;
const ADDRESSES = 3; // descriptors, driver, device; low and high of each
const QUEUE_RESET = ADDRESSES + 6;
const QUEUE_WORDS = QUEUE_RESET + 1;

/** Of the three words that ask the Worker for something. */
export const IDLE = 0;
export const ASKED = 1;
export const DONE = 2;

/** A wait looks this often whether it is in vain. */
const LOOK_AGAIN_MS = 100;

/** A request to the Worker: asked by one thread, done by the Worker, taken note of by the one that asked. */
export class Request {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  get state(): number {
    return Atomics.load(this.#words, this.#at);
  }

  set(state: typeof IDLE | typeof ASKED | typeof DONE): void {
    Atomics.store(this.#words, this.#at, state);
    Atomics.notify(this.#words, this.#at);
  }

  /** The Worker: done, if it is still asked for: who asked may have given up. */
  finish(): void {
    Atomics.compareExchange(this.#words, this.#at, ASKED, DONE);
    Atomics.notify(this.#words, this.#at);
  }

  /** Waits while it is asked for and not done, `milliseconds` at most. @param look called now and then: may throw @returns whether it is done, or nobody asks any more */
  wait(milliseconds: number, look: () => void = (): void => {}): boolean {
    const end = performance.now() + milliseconds;
    while (this.state === ASKED) {
      const left = end - performance.now();
      if (left <= 0) return false;
      Atomics.wait(this.#words, this.#at, ASKED, Math.min(left, LOOK_AGAIN_MS));
      look();
    }
    return true;
  }
}

export class QueueRegisters {
  readonly maxSize: number;
  readonly reset: Request;
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, at: number, maxSize: number) {
    this.#words = words;
    this.#at = at;
    this.maxSize = maxSize;
    this.reset = new Request(words, at + QUEUE_RESET);
  }

  get size(): number {
    return this.#words[this.#at + SIZE]!;
  }
  set size(size: number) {
    this.#words[this.#at + SIZE] = size;
  }

  get vector(): number {
    return Atomics.load(this.#words, this.#at + VECTOR);
  }
  set vector(vector: number) {
    Atomics.store(this.#words, this.#at + VECTOR, vector);
  }

  get enabled(): boolean {
    return Atomics.load(this.#words, this.#at + ENABLED) !== 0;
  }
  set enabled(enabled: boolean) {
    Atomics.store(this.#words, this.#at + ENABLED, enabled ? 1 : 0);
  }

  /** Of 6: low and high dword of the descriptor, driver and device areas. */
  address(dword: number): number {
    return this.#words[this.#at + ADDRESSES + dword]! >>> 0;
  }
  setAddress(dword: number, value: number): void {
    this.#words[this.#at + ADDRESSES + dword] = value;
  }

  /** Guest-physical: 0 descriptors, 1 driver, 2 device. */
  area(which: 0 | 1 | 2): number {
    return this.address(2 * which + 1) * 2 ** 32 + this.address(2 * which);
  }

  /** As after a reset of the device; of the queue alone, the vector stays. */
  clear(vector = NO_VECTOR): void {
    this.#words.fill(0, this.#at, this.#at + QUEUE_WORDS);
    this.size = this.maxSize;
    this.vector = vector;
  }
}

export class DeviceRegisters {
  readonly queues: readonly QueueRegisters[];
  readonly reset: Request;
  readonly pause: Request;
  readonly #words: Int32Array;

  constructor(arena: Arena, label: string, queueSizes: readonly number[]) {
    this.#words = arena.int32(`virtio.${label}`, DEVICE_WORDS + queueSizes.length * QUEUE_WORDS);
    this.queues = queueSizes.map((size, index) => new QueueRegisters(this.#words, DEVICE_WORDS + index * QUEUE_WORDS, size));
    this.reset = new Request(this.#words, RESET);
    this.pause = new Request(this.#words, PAUSE);
  }

  #get(at: number): number {
    return Atomics.load(this.#words, at);
  }
  #set(at: number, value: number): void {
    Atomics.store(this.#words, at, value);
  }

  get deviceSelect(): number {
    return this.#get(DEVICE_SELECT) >>> 0;
  }
  set deviceSelect(value: number) {
    this.#set(DEVICE_SELECT, value);
  }
  get driverSelect(): number {
    return this.#get(DRIVER_SELECT) >>> 0;
  }
  set driverSelect(value: number) {
    this.#set(DRIVER_SELECT, value);
  }
  get queueSelect(): number {
    return this.#get(QUEUE_SELECT);
  }
  set queueSelect(value: number) {
    this.#set(QUEUE_SELECT, value);
  }
  get configVector(): number {
    return this.#get(CONFIG_VECTOR);
  }
  set configVector(value: number) {
    this.#set(CONFIG_VECTOR, value);
  }
  get status(): number {
    return this.#get(STATUS);
  }
  set status(value: number) {
    this.#set(STATUS, value);
  }
  /** The Worker: the driver must reset the device (§2.1.2). */
  needReset(): void {
    Atomics.or(this.#words, STATUS, STATUS_NEEDS_RESET);
  }
  get generation(): number {
    return this.#get(GENERATION) & 0xff;
  }
  bumpGeneration(): void {
    Atomics.add(this.#words, GENERATION, 1);
  }
  get isr(): number {
    return this.#get(ISR);
  }
  set isr(value: number) {
    this.#set(ISR, value);
  }
  get session(): boolean {
    return this.#get(SESSION) !== 0;
  }
  set session(value: boolean) {
    this.#set(SESSION, value ? 1 : 0);
  }

  /** 32 of the features that the device offers; 0 beyond the last. */
  deviceFeatures(word: number): number {
    return word < FEATURE_WORDS ? this.#get(DEVICE_FEATURES + word) >>> 0 : 0;
  }
  /** 32 of the features that the driver wants. */
  driverFeatures(word: number): number {
    return word < FEATURE_WORDS ? this.#get(DRIVER_FEATURES + word) >>> 0 : 0;
  }
  setDriverFeatures(word: number, value: number): void {
    if (word < FEATURE_WORDS) this.#set(DRIVER_FEATURES + word, value);
  }

  /** From now on the device offers feature number `feature`, or does not. Before a driver looks. */
  offer(feature: number, offered = true): void {
    const at = DEVICE_FEATURES + (feature >>> 5);
    const bit = 1 << (feature & 31);
    this.#set(at, offered ? this.#get(at) | bit : this.#get(at) & ~bit);
  }

  offers(feature: number): boolean {
    return (this.deviceFeatures(feature >>> 5) & (1 << (feature & 31))) !== 0;
  }

  /** Whether the driver wants feature number `feature`: negotiated once FEATURES_OK is set. */
  negotiated(feature: number): boolean {
    return (this.driverFeatures(feature >>> 5) & (1 << (feature & 31))) !== 0;
  }

  /** What a driver may have done is undone; what the device offers and its queues' sizes stay. PAUSE is not the driver's. */
  clear(): void {
    this.#words.fill(0, DEVICE_SELECT, DEVICE_FEATURES);
    this.#words.fill(0, CONFIG_VECTOR, PAUSE);
    this.configVector = NO_VECTOR;
    for (const queue of this.queues) queue.clear();
  }
}
