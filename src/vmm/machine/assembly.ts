// What a machine is made of, put together on the control thread and taken apart at its end: KVM's parts, the devices and what serves them, the
// screen, and a Worker per vCPU. What the parts have to say goes to `hooks`; what it means for the machine is machine.ts's business.
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { GuestMemoryStats } from '../../shared/protocol/machine.ts';
import { chooseSlots } from '../../shared/slots.ts';
import { isVirtioDevice, type VirtioPci } from '../virtio/pci.ts';
import { VRAM_BYTES } from '../display/adapter.ts';
import { ScreenSource } from '../display/screen-source.ts';
import type { Forward } from '../net/passt-program.ts';
import { advise, MADV_DONTDUMP, MADV_DONTFORK } from '../kvm/libc.ts';
import { allocateWindow, type Window } from '../memory/window.ts';
import { Arena } from '../sync/arena.ts';
import type { DeviceNews } from '../virtio/news.ts';
import { directBoot, fwCfgItems } from './direct-boot.ts';
import { Equipment } from './equipment.ts';
import { HotPlug } from './hot-plug.ts';
import { writeChips } from './initial-chips.ts';
import { entryFile } from './entry.ts';
import { IoThreads } from './io-threads.ts';
import { installKickHandler } from './kick.ts';
import type { PluggedDescription } from './plugged.ts';
import { SerialInput } from './serial-input.ts';
import { ServiceLoop } from './service-loop.ts';
import { StatsWatch } from './stats-watch.ts';
import { buildThread, type MachineThread, type ThreadDescription } from './thread.ts';
import type { ThreadMessage } from './thread-platform.ts';
import { VcpuThreads } from './vcpu-threads.ts';
import type { VcpuMessage } from './vcpu-worker.ts';
import { VmParts } from './vm-parts.ts';
import { VramLog } from './vram-log.ts';

const JOIN_MS = 5000;
/** Until a disk of the host's has taken what was written. */
const IO_END_MS = 60_000;
/** Bytes for the registers of all devices, those that come later included; committed as they are used. */
const ARENA_BYTES = 16 * 2 ** 20;

/** What the parts have to say. All of it on the control thread, and none while the assembly is being made but `log`. */
export interface AssemblyHooks {
  log(level: 'info' | 'error', text: string): void;
  /** The devices of any thread; between two turns of the event loop. */
  heard(message: ThreadMessage): void;
  heardVcpu(message: Exclude<VcpuMessage, { kind: 'ready' | 'answer' }>): void;
  /** What the guest wrote to its serial port. @returns false when there is no room for more */
  serialOutput(bytes: Uint8Array): boolean | void;
  debugOutput(bytes: Uint8Array): void;
  screenSize(size: { readonly width: number; readonly height: number } | null): void;
  /** The host wants a device back that was passed through. */
  wantedBack(slot: number, address: string): void;
  /** The backend of the virtio device in this slot has something to say. */
  told(slot: number, news: DeviceNews): void;
  /** Whether guest RAM may be given back to the host is another thing now than it was. */
  gateMoved(): void;
  /** What the guest says of its memory. */
  guestMemory(): GuestMemoryStats | undefined;
  /** Somebody looks at the statistics, or nobody any more. */
  statsWatched(on: boolean): void;
  /** A vCPU's thread ended by an error that it could not tell of itself. */
  threadFailed(thrown: unknown): void;
  /** A vCPU's thread is gone, told to or not. */
  threadGone(id: number): void;
  /** A defect of ours in what nobody waits for. */
  failed(thrown: unknown): void;
}

export class Assembly {
  readonly parts: VmParts;
  readonly thread: MachineThread;
  readonly hotPlug: HotPlug;
  readonly services: ServiceLoop;
  readonly serialInput: SerialInput;
  readonly stats: StatsWatch;
  /** Null for a machine without a display. */
  readonly screen: ScreenSource | null;
  readonly #config: MachineConfig;
  readonly #equipment: Equipment;
  readonly #threads: VcpuThreads;
  readonly #io: IoThreads;
  readonly #ioReady: Promise<unknown>;

  /** Throws VitrineError or SystemError, and leaves nothing open. Wait for `ready` before all else. */
  constructor(config: MachineConfig, vcpuEntry: string, hooks: AssemblyHooks) {
    this.#config = config;
    this.parts = new VmParts(config);
    const { vm, ram, vcpus } = this.parts;
    const equipment = (this.#equipment = new Equipment({
      id: config.id, name: config.name, ram, vm: vm.fd,
      log: (text) => hooks.log('info', text),
      gateMoved: () => hooks.gateMoved(),
      wanted: (slot, address) => hooks.wantedBack(slot, address),
      failed: (_, address) => hooks.log('error', `the device ${address} of the host reports an error that cannot be mended; a reset of the machine may help`),
    }));
    try {
      installKickHandler();
      const vram = config.display.kind === 'canvas' ? allocateWindow(VRAM_BYTES) : null;
      if (vram !== null) for (const advice of [MADV_DONTFORK, MADV_DONTDUMP]) advise(vram.address, vram.size, advice);
      const slots = chooseSlots(config.devices);
      const plugged = config.devices.map((device, index) => equipment.equip(device, slots[index]!));
      const arena = new Arena(ARENA_BYTES);
      const description = this.#describe(arena, plugged, vram);
      const thread = (this.thread = buildThread(description, -1, (message) => setImmediate(() => hooks.heard(message)), arena, {
        onSerialOutput: (bytes) => hooks.serialOutput(bytes),
        onSerialRoom: () => this.serialInput.resume(),
        onDebugOutput: (bytes) => hooks.debugOutput(bytes),
      }));
      this.#io = new IoThreads({
        entry: entryFile('io'),
        vm: vm.fd,
        ram: ram.windows,
        heard: (message) => hooks.heard(message),
        told: (slot, news) => hooks.told(slot, news),
        failed: (thrown) => {
          this.poison();
          hooks.threadFailed(thrown);
        },
      });
      this.#ioReady = Promise.all(plugged.filter((device) => 'wires' in device).map(async (device) => {
        await this.#io.add(device, arena.describe());
        await equipment.begin(device, (message) => this.#io.send(device.slot, message));
      }));
      this.#ioReady.catch(() => {}); // whoever waits for "ready" hears of it
      this.hotPlug = new HotPlug({
        name: config.name, thread, equipment, plugged,
        tell: (mail) => this.#threads.tell(mail),
        io: this.#io,
        log: (text) => hooks.log('info', text),
        failed: (thrown) => hooks.failed(thrown),
      });
      this.services = new ServiceLoop(thread.devices, thread.clock, thread.attention, (thrown) => hooks.failed(thrown));
      this.serialInput = new SerialInput(thread.devices.serial);
      this.stats = new StatsWatch({ states: thread.states, frames: () => this.screen?.frames ?? 0, guest: () => hooks.guestMemory(), watched: (on) => hooks.statsWatched(on) });
      this.screen = vram === null ? null : openScreen(thread, vram, (size) => hooks.screenSize(size));
      thread.states.holdBeforeStart();
      thread.clock.begin();
      this.#threads = new VcpuThreads({
        entry: vcpuEntry,
        thread: description,
        vcpus,
        heard: (message) => hooks.heardVcpu(message),
        wake: (id) => thread.states.sendMail(id),
        failed: (thrown) => {
          this.poison(); // it may have held a lock
          hooks.threadFailed(thrown);
        },
        gone: (id) => hooks.threadGone(id),
      });
    } catch (thrown) {
      this.#takeApart();
      throw thrown;
    }
  }

  #describe(arena: Arena, plugged: readonly PluggedDescription[], vram: Window | null): ThreadDescription {
    const { display, cpus, memory, testDevices } = this.#config;
    return {
      arena: arena.describe(),
      vm: this.parts.vm.fd,
      ram: this.parts.ram.windows,
      runs: this.parts.runs,
      devices: {
        cpus,
        physicalBits: this.parts.cpus.physicalBits,
        display: display.kind === 'canvas' ? { width: display.width, height: display.height, vram: vram!.buffer } : undefined,
        testDevices,
        plugged,
        fwCfg: fwCfgItems(memory, cpus).describe(),
      },
    };
  }

  /** Resolves when every vCPU's thread has built its devices and waits for the start; rejects when one cannot. */
  get ready(): Promise<void> {
    return Promise.all([this.#threads.ready, this.#ioReady]).then(() => {});
  }

  /** Devices and CPUs as after power-on, and the kernel in RAM. Every vCPU is parked or has not begun. Throws VitrineError. */
  boot(): void {
    const { thread, hotPlug } = this;
    const { vcpus, cpus, chips } = this.parts;
    const { boot, display } = this.#config;
    writeChips(thread.vm, chips);
    thread.lines.reset();
    hotPlug.settle();
    this.#equipment.reset(thread.devices.host.functions().map(({ device }) => device));
    for (const device of thread.devices.all) device.reset();
    thread.devices.host.reset();
    hotPlug.reset();
    const entry = directBoot({
      ram: thread.ram,
      devices: thread.devices,
      kernel: boot.kernel,
      initrd: boot.initrd,
      append: boot.append,
      apicIds: vcpus.map((vcpu) => vcpu.id),
      mode: display.kind === 'canvas' ? { width: display.width, height: display.height } : null,
    });
    cpus.reset(entry);
    thread.boots.next();
  }

  /** Whoever takes a lock from now on is told that a thread failed. */
  poison(): void {
    Atomics.store(this.thread.arena.poison, 0, 1);
  }

  get #virtio(): VirtioPci[] {
    return this.thread.devices.host.functions().map(({ device }) => device).filter(isVirtioDevice);
  }

  /** With every vCPU parked: every backend stops at a request's end. @returns the labels of the devices that did not within `milliseconds` */
  pauseIo(milliseconds: number): string[] {
    const devices = this.#virtio;
    const end = performance.now() + milliseconds;
    for (const device of devices) device.pause();
    return devices.filter((device) => !device.waitPaused(Math.max(0, end - performance.now()))).map(({ label }) => label);
  }

  resumeIo(): void {
    for (const device of this.#virtio) device.resume();
  }

  /** Other forwarded ports of the network card in this slot. Rejects with a VitrineError, with those before in place. */
  forward(slot: number, forwards: readonly Forward[]): Promise<void> {
    return this.#equipment.forward(slot, forwards);
  }

  /** A message for the backend of the virtio device in this slot. Rejects with a VitrineError with what cannot be done. */
  tellDevice(slot: number, message: unknown): Promise<unknown> {
    return this.#io.send(slot, message);
  }

  /** Threads that have not ended. */
  get threadsLeft(): number {
    return this.#threads.left + this.#io.left;
  }

  /**
   * Every vCPU out of KVM_RUN and its thread gone, then all else. A thread that does not go keeps the descriptors: its KVM_RUN finds what it knows.
   * @returns whether all of it is gone
   */
  async close(): Promise<boolean> {
    const { states } = this.thread;
    states.stop();
    if (!states.joined(JOIN_MS)) this.poison();
    const still = await this.#threads.ended(JOIN_MS);
    // What the host's files have not got yet is written now.
    const gone = (await this.#io.end(IO_END_MS)) && still;
    this.screen?.close();
    if (gone) this.#takeApart();
    this.serialInput.close();
    return gone;
  }

  /** With no thread left, or before the first. Not all of it may be there. */
  #takeApart(): void {
    const thread = this.thread as MachineThread | undefined;
    this.#equipment.close(thread?.devices.host.functions().map(({ device }) => device) ?? []);
    this.parts.close();
  }
}

function openScreen(thread: MachineThread, vram: Window, onModeChange: AssemblyHooks['screenSize']): ScreenSource {
  const adapter = thread.devices.display!;
  const log = new VramLog({ vm: thread.vm, slots: thread.slots, topology: thread.devices.topology, bus: thread.devices.memory, display: adapter });
  return new ScreenSource({ adapter, vram, log, onModeChange });
}
