// One vCPU's loop: KVM_RUN, then the exit handled inline on this thread. Specified in Documentation/virt/kvm/api.rst, section 5.
// Every exit reason that x86 can give with in-kernel interrupt controllers is either handled or ends the machine with words.
import koffi from 'koffi';
import * as k from '../kvm/ioctls.ts';
import { EAGAIN, EFAULT, EINTR, errnoName } from '../kvm/libc.ts';
import { BYTE_OUT, bindVcpu, runVcpu } from '../kvm/run-vcpu.ts';
import type { Width } from '../bus/handler.ts';
import { OFFLINE, type VcpuStates } from './vcpu-state.ts';

/** What the loop needs of a bus: single accesses for ports, byte runs for memory. */
export interface ExitBus {
  read(address: number, width: Width): number;
  write(address: number, width: Width, value: number): void;
  readBytes(address: number, view: DataView, offset: number, length: number): void;
  writeBytes(address: number, view: DataView, offset: number, length: number): void;
}

/** Why the guest cannot go on by itself. */
export type GuestStop =
  | { kind: 'triple-fault' }
  | { kind: 'power-off' }
  | { kind: 'reset' }
  | { kind: 'crash'; why: string };

export interface VcpuLoopOptions {
  id: number;
  fd: number;
  /** The window over kvm_run. */
  run: SharedArrayBuffer;
  states: VcpuStates;
  ports: ExitBus;
  memory: ExitBus;
  /** Tells the control thread; the vCPU stands still afterwards. */
  stopped(stop: GuestStop): void;
}

// offsets inside kvm_run's union: kvm_run.io, .mmio, .internal, .system_event, .fail_entry, .hw
const IO_DIRECTION = 32;
const IO_SIZE = 33;
const IO_PORT_16 = 17; // u16 index of byte 34
const IO_COUNT_32 = 9;
const IO_DATA_OFFSET_32 = 10;
const IO_OUT = 1;
const MMIO_ADDRESS_LOW_32 = 8;
const MMIO_ADDRESS_HIGH_32 = 9;
const MMIO_DATA = 40;
const MMIO_LENGTH_32 = 12;
const MMIO_IS_WRITE = 52;
const UNION_32 = 8;

/** kvm_run.internal.suberror */
const SUBERRORS = ['unknown', 'an instruction that KVM cannot emulate', 'two exceptions at once', 'an exception while one was delivered', 'an exit that KVM did not expect'];

export class VcpuLoop {
  readonly #o: VcpuLoopOptions;
  readonly #ports: ExitBus;
  readonly #memory: ExitBus;
  readonly #bytes: Uint8Array;
  readonly #halves: Uint16Array;
  readonly #words: Uint32Array;
  readonly #view: DataView;

  constructor(options: VcpuLoopOptions) {
    this.#o = options;
    this.#ports = options.ports;
    this.#memory = options.memory;
    const size = options.run.byteLength;
    this.#bytes = new Uint8Array(options.run, 0, size);
    this.#halves = new Uint16Array(options.run, 0, size / 2);
    this.#words = new Uint32Array(options.run, 0, size / 4);
    this.#view = new DataView(options.run, 0, size);
  }

  /** Runs until the states say stop. Throws what a handler throws: a defect of ours, which ends the machine. */
  run(thread: number): void {
    const { fd, id, states, ports } = this.#o;
    states.enter(id, thread);
    bindVcpu(fd, Number(koffi.address(this.#bytes)), states.address(id));
    try {
      if (!states.obey(id)) return;
      for (;;) {
        const reason = runVcpu();
        if (reason >= BYTE_OUT) ports.write((reason >>> 8) & 0xffff, 1, reason & 0xff);
        else if (reason === k.KVM_EXIT_IO) this.#io();
        else if (reason === k.KVM_EXIT_MMIO) this.#mmio();
        else if (reason >= 0) {
          if (!this.#handle(reason)) return;
        } else if (reason === -EINTR || reason === -EAGAIN) {
          if (!states.obey(id)) return;
        } else if (!this.#stop(this.#refused(-reason))) return;
      }
    } finally {
      states.set(id, OFFLINE);
    }
  }

  #refused(error: number): GuestStop {
    const why =
      error === EFAULT
        ? 'the host could not provide memory that the guest touched: host memory ran out, or a given device went away while it was mapped'
        : `KVM refused to run CPU ${this.#o.id} (${errnoName(error)})`;
    return { kind: 'crash', why };
  }

  /** Every exit but accesses. @returns false when the thread must end. */
  #handle(reason: number): boolean {
    switch (reason) {
      case k.KVM_EXIT_INTR:
      case k.KVM_EXIT_IRQ_WINDOW_OPEN:
      case k.KVM_EXIT_HLT: // with in-kernel interrupt controllers KVM waits itself; entering again is right all the same
        return true;
      case k.KVM_EXIT_SHUTDOWN:
        return this.#stop({ kind: 'triple-fault' });
      case k.KVM_EXIT_SYSTEM_EVENT:
        return this.#stop(this.#systemEvent());
      case k.KVM_EXIT_INTERNAL_ERROR:
        return this.#stop({ kind: 'crash', why: this.#internalError() });
      case k.KVM_EXIT_FAIL_ENTRY:
        return this.#stop({ kind: 'crash', why: `the processor refused to enter the guest (reason 0x${this.#words[UNION_32]!.toString(16)})` });
      case k.KVM_EXIT_UNKNOWN:
        return this.#stop({ kind: 'crash', why: `the processor left the guest for a reason that KVM does not know (0x${this.#words[UNION_32]!.toString(16)})` });
      case k.KVM_EXIT_DEBUG:
      case k.KVM_EXIT_EXCEPTION:
      case k.KVM_EXIT_HYPERCALL:
      default:
        return this.#stop({ kind: 'crash', why: `KVM left the guest with reason ${reason}, which nothing here asked for` });
    }
  }

  #io(): void {
    const bytes = this.#bytes;
    const words = this.#words;
    const port = this.#halves[IO_PORT_16]!;
    const width = bytes[IO_SIZE]! as Width;
    const at = words[IO_DATA_OFFSET_32]!;
    const count = words[IO_COUNT_32]!;
    const out = bytes[IO_DIRECTION] === IO_OUT;
    if (count !== 1) this.#ioString(out, port, width, at, count);
    else if (out) this.#ports.write(port, width, width === 1 ? bytes[at]! : width === 2 ? this.#halves[at >> 1]! : words[at >> 2]!);
    else {
      const value = this.#ports.read(port, width);
      if (width === 1) bytes[at] = value;
      else if (width === 2) this.#halves[at >> 1] = value;
      else words[at >> 2] = value;
    }
  }

  /** INS and OUTS with REP: `count` accesses, their data one after the other. */
  #ioString(out: boolean, port: number, width: Width, start: number, count: number): void {
    const ports = this.#ports;
    const view = this.#view;
    for (let i = 0, at = start; i < count; i++, at += width) {
      if (out) ports.writeBytes(port, view, at, width);
      else ports.readBytes(port, view, at, width);
    }
  }

  #mmio(): void {
    const words = this.#words;
    const address = words[MMIO_ADDRESS_HIGH_32]! * 0x1_0000_0000 + words[MMIO_ADDRESS_LOW_32]!;
    const length = words[MMIO_LENGTH_32]!;
    const memory = this.#memory;
    const write = this.#bytes[MMIO_IS_WRITE] !== 0;
    if (length === 4) {
      if (write) memory.write(address, 4, words[MMIO_DATA / 4]!);
      else words[MMIO_DATA / 4] = memory.read(address, 4);
    } else if (write) memory.writeBytes(address, this.#view, MMIO_DATA, length);
    else memory.readBytes(address, this.#view, MMIO_DATA, length);
  }

  #systemEvent(): GuestStop {
    switch (this.#words[UNION_32]) {
      case k.KVM_SYSTEM_EVENT_SHUTDOWN:
        return { kind: 'power-off' };
      case k.KVM_SYSTEM_EVENT_RESET:
        return { kind: 'reset' };
      default:
        return { kind: 'crash', why: `the guest reported a crash (system event ${this.#words[UNION_32]})` };
    }
  }

  #internalError(): string {
    const suberror = this.#words[UNION_32]!;
    const data = Array.from({ length: Math.min(16, this.#words[UNION_32 + 1]!) }, (_, i) => {
      const at = UNION_32 + 2 + i * 2;
      return `0x${(BigInt(this.#words[at + 1]!) * 0x1_0000_0000n + BigInt(this.#words[at]!)).toString(16)}`;
    });
    return `KVM stopped CPU ${this.#o.id} at ${SUBERRORS[suberror] ?? `internal error ${suberror}`}${data.length > 0 ? ` (${data.join(' ')})` : ''}`;
  }

  #stop(stop: GuestStop): boolean {
    this.#o.stopped(stop);
    return this.#o.states.standStill(this.#o.id);
  }
}
