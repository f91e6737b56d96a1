// A machine, as its control thread has it: builds the VM, starts a Worker per vCPU, carries out what guests and people ask for (reset,
// power, pause), and ends with an outcome. Everything here runs on the control thread; the vCPUs never wait for it.
import { sentence, toProblem, VitrineError, type Problem } from '../../shared/errors.ts';
import type { DeviceConfig, MachineConfig } from '../../shared/machine-config.ts';
import type { PointerInput } from '../../shared/protocol/input.ts';
import type { Backend, MachineStats, Outcome, PluggedDevice } from '../../shared/protocol/machine.ts';
import type { Bus } from '../bus/bus.ts';
import type { MachineRequest } from '../devices/device.ts';
import { VRAM_BYTES } from '../display/adapter.ts';
import { encodePng } from '../display/png.ts';
import { ScreenSource } from '../display/screen-source.ts';
import { advise, MADV_DONTDUMP, MADV_DONTFORK } from '../kvm/libc.ts';
import { allocateWindow, type Window } from '../memory/window.ts';
import { SerialBacklog, Watched, type LogBacklog, type MachineControl, type MachineFacts, type ScreenAttachment, type ScreenViewer, type Unsubscribe } from '../server/control.ts';
import { Arena } from '../sync/arena.ts';
import { PoisonedError } from '../sync/mutex.ts';
import { directBoot, fwCfgItems } from './direct-boot.ts';
import { Equipment } from './equipment.ts';
import { entryFile } from './entry.ts';
import { guestHalted } from './guest-halted.ts';
import { startTime, stopTime, type StoppedTime } from './guest-time.ts';
import { HotPlug } from './hot-plug.ts';
import { writeChips } from './initial-chips.ts';
import { installKickHandler } from './kick.ts';
import { MachineLog } from './machine-log.ts';
import { chooseSlots } from './plugged.ts';
import { dumpRegisters } from './register-dump.ts';
import { SerialInput } from './serial-input.ts';
import { ServiceLoop } from './service-loop.ts';
import { StatsWatch } from './stats-watch.ts';
import { buildThread, type MachineThread, type ThreadDescription } from './thread.ts';
import type { ThreadMessage } from './thread-platform.ts';
import type { GuestStop } from './vcpu-loop.ts';
import { VcpuThreads } from './vcpu-threads.ts';
import type { VcpuMessage } from './vcpu-worker.ts';
import { VmParts } from './vm-parts.ts';
import { VramLog } from './vram-log.ts';

/** Triple faults in a row, each this soon after the last boot, that end a machine which would reset for ever. */
const FRUITLESS_RESETS = 3;
const FRUITLESS_MS = 5000;
const HALT_CHECK_MS = 500;
const LED_CHECK_MS = 200;
const JOIN_MS = 5000;
/** Patience with a guest whose device the host wants back. */
const WANTED_BACK_SECONDS = 60;
/** Bytes for the registers of all devices, those that come later included; committed as they are used. */
const ARENA_BYTES = 16 * 2 ** 20;
/** What made another thread fail is told by that thread, at once; this long it is waited for. */
const CAUSE_MS = 1000;

const LED_SCROLL = 1;
const LED_NUM = 2;
const LED_CAPS = 4;

export interface MachineOptions {
  readonly config: MachineConfig;
  readonly backend: Backend;
  /** A further place for the machine's log lines: standard error, which is the machine's log file. */
  readonly log?: (text: string) => void;
  /** The file of the vCPUs' Workers, for tests of threads that fail. */
  readonly vcpuEntry?: string;
}

/** A run of ports or guest-physical addresses. */
export interface AddressRange {
  /** Of the handler: a BAR's is its device's label and "bar" with its number. */
  readonly name: string;
  readonly start: number;
  readonly size: number;
  /** Of `start` in what the handler has. */
  readonly offset: number;
}

export interface AddressMap {
  readonly io: readonly AddressRange[];
  readonly memory: readonly AddressRange[];
  readonly slots: readonly string[];
}

export class Machine implements MachineControl {
  readonly facts: Watched<MachineFacts>;
  readonly serial = new SerialBacklog();
  /** Resolves once, when the machine has ended and its threads are gone. */
  readonly ended: Promise<Outcome>;

  readonly #config: MachineConfig;
  readonly #log: MachineLog;
  readonly #vcpuEntry: string;
  #finish!: (outcome: Outcome) => void;
  #parts: VmParts | null = null;
  #threads: VcpuThreads | null = null;
  #thread: MachineThread | null = null;
  #screen: ScreenSource | null = null;
  #equipment: Equipment | null = null;
  #hotPlug: HotPlug | null = null;
  #services: ServiceLoop | null = null;
  #serialInput: SerialInput | null = null;
  #stats: StatsWatch | null = null;
  #stopped: StoppedTime | null = null;
  /** What the guest asked for just before it was paused, and what stopped its vCPUs: done when it runs again, for guest time stands still. */
  #waiting: { boot: number; act: () => void }[] = [];
  #pausedAt = 0;
  #bootedAt = 0;
  #fruitless = 0;
  #haltedLooks = 0;
  /** Resolves when the machine has ended; null while nothing ends it. */
  #ending: Promise<void> | null = null;
  #timers: NodeJS.Timeout[] = [];

  constructor({ config, backend, log, vcpuEntry }: MachineOptions) {
    this.#config = config;
    this.#log = new MachineLog(log ?? ((): void => {}));
    this.#vcpuEntry = vcpuEntry ?? entryFile('vcpu');
    this.ended = new Promise((resolve) => (this.#finish = resolve));
    this.facts = new Watched<MachineFacts>({
      id: config.id, name: config.name, state: 'starting', pid: process.pid, euid: process.geteuid!(), startedAt: Date.now(), pausedFor: 0, resets: 0,
      backend, cpus: config.cpus, memory: config.memory, display: config.display.kind, leds: { caps: false, num: false, scroll: false },
    });
  }

  get log(): LogBacklog {
    return this.#log.lines;
  }

  // Starting.

  /**
   * Builds the machine and lets it run, unless it was forced off before or meanwhile. When it cannot, the machine ends as 'failed' with the
   * problem; nothing is thrown.
   */
  async start(): Promise<void> {
    if (this.#ending !== null) return this.#ending;
    try {
      await this.#build();
      if (this.#ending !== null) return this.#ending;
      this.#boot();
      this.#run();
    } catch (thrown) {
      await this.#end('failed', toProblem(thrown, 'start the machine', this.#config.name));
    }
  }

  async #build(): Promise<void> {
    const config = this.#config;
    const parts = (this.#parts = new VmParts(config));
    const { vm, ram, vcpus, cpus } = parts;
    installKickHandler();
    const vram = config.display.kind === 'canvas' ? allocateWindow(VRAM_BYTES) : null;
    if (vram !== null) for (const advice of [MADV_DONTFORK, MADV_DONTDUMP]) advise(vram.address, vram.size, advice);
    const slots = chooseSlots(config.devices);
    const equipment = (this.#equipment = new Equipment({
      name: config.name, ram, vm: vm.fd,
      log: (text) => this.#log.say('info', text),
      wanted: (slot, address) => this.#guard(() => this.#wantedBack(slot, address)),
      failed: (_, address) => this.#log.say('error', `the device ${address} of the host reports an error that cannot be mended; a reset of the machine may help`),
    }));
    const plugged = config.devices.map((device, index) => equipment.equip(device, slots[index]!));
    const arena = new Arena(ARENA_BYTES);
    const description: ThreadDescription = {
      arena: arena.describe(),
      vm: vm.fd,
      ram: ram.windows,
      runs: parts.runs,
      devices: {
        cpus: config.cpus,
        physicalBits: cpus.physicalBits,
        display: config.display.kind === 'canvas' ? { width: config.display.width, height: config.display.height, vram: vram!.buffer } : undefined,
        testDevices: config.testDevices,
        plugged,
        fwCfg: fwCfgItems(config.memory, config.cpus).describe(),
      },
    };
    const thread = buildThread(description, -1, (message) => setImmediate(() => this.#guard(() => this.#heard(message))), arena, {
      onSerialOutput: (bytes) => this.serial.push(bytes),
      onSerialRoom: () => this.#serialInput?.resume(),
      onDebugOutput: (bytes) => this.#log.debugOutput(bytes),
    });
    this.#thread = thread;
    this.#hotPlug = new HotPlug({
      name: config.name, thread, equipment, plugged,
      tell: (mail) => this.#threads!.tell(mail),
      log: (text) => this.#log.say('info', text),
      failed: (thrown) => this.fail(thrown),
    });
    this.#services = new ServiceLoop(thread.devices, thread.clock, thread.attention, (thrown) => this.fail(thrown));
    this.#serialInput = new SerialInput(thread.devices.serial);
    this.#stats = new StatsWatch(thread.states, () => this.#screen?.frames ?? 0);
    if (vram !== null) this.#openScreen(thread, vram);
    thread.states.holdBeforeStart();
    thread.clock.begin();
    this.#threads = new VcpuThreads({
      entry: this.#vcpuEntry,
      thread: description,
      vcpus,
      heard: (message) => this.#heardVcpu(message),
      wake: (id) => thread.states.sendMail(id),
      failed: (thrown) => {
        Atomics.store(arena.poison, 0, 1); // it may have held a lock
        if (this.facts.value.state !== 'starting') this.fail(thrown);
      },
      gone: (id) => this.#threadGone(id, arena),
    });
    await this.#threads.ready;
  }

  /** The host wants a device back: the guest is asked for it. */
  #wantedBack(slot: number, address: string): void {
    this.#log.say('warning', `the host wants its device ${address} back`);
    this.#hotPlug?.remove(slot, { force: false, seconds: WANTED_BACK_SECONDS }).catch((thrown: unknown) => this.#log.say('warning', sentence(toProblem(thrown, 'give the device back', address))));
  }

  #openScreen(thread: MachineThread, vram: Window): void {
    const display = thread.devices.display!;
    const log = new VramLog({ vm: thread.vm, slots: thread.slots, topology: thread.devices.topology, bus: thread.devices.memory, display });
    this.#screen = new ScreenSource({
      adapter: display, vram, log,
      onModeChange: (size) => this.facts.update({ screen: size === null ? undefined : { width: size.width, height: size.height } }),
    });
  }

  /** Devices and CPUs as after power-on, and the kernel in RAM. Every vCPU is parked or has not begun. */
  #boot(): void {
    const thread = this.#thread!;
    const { vcpus, cpus, chips } = this.#parts!;
    const config = this.#config;
    writeChips(thread.vm, chips);
    thread.lines.reset();
    this.#hotPlug!.settle();
    for (const device of thread.devices.all) device.reset();
    thread.devices.host.reset();
    this.#hotPlug!.reset();
    const entry = directBoot({
      ram: thread.ram,
      devices: thread.devices,
      kernel: config.boot.kernel,
      initrd: config.boot.initrd,
      append: config.boot.append,
      apicIds: vcpus.map((vcpu) => vcpu.id),
      mode: config.display.kind === 'canvas' ? { width: config.display.width, height: config.display.height } : null,
    });
    cpus.reset(entry);
    thread.boots.next();
    this.#bootedAt = Date.now();
  }

  #run(): void {
    const thread = this.#thread!;
    thread.clock.resume();
    thread.states.resume();
    this.#services!.start();
    this.facts.update({ state: 'running', firstRunAt: this.facts.value.firstRunAt ?? Date.now() });
    if (this.#timers.length > 0) return;
    this.#timers.push(setInterval(() => this.#guard(() => this.#lookAtLeds()), LED_CHECK_MS));
    if (this.#config.exitOnHalt) this.#timers.push(setInterval(() => this.#guard(() => this.#lookForHalt()), HALT_CHECK_MS));
  }

  // What threads say.

  #heard(message: ThreadMessage): void {
    if (this.#ending !== null) return;
    if (message.kind === 'attention') this.#services?.attend();
    else if (message.kind === 'log') this.#log.sayOfGuest('info', `${message.label}: ${message.text}`);
    else this.#whenRunning(message.boot, () => this.#requested(message.request));
  }

  #heardVcpu(message: Exclude<VcpuMessage, { kind: 'ready' | 'answer' }>): void {
    if (message.kind === 'failed') this.fail(new Error(message.why));
    else if (message.kind === 'stopped') this.#guard(() => this.#whenRunning(message.boot, () => this.#guestStopped(message.id, message.stop)));
    else this.#guard(() => this.#heard(message));
  }

  /** Does what a message of boot number `boot` asks, unless that life of the guest is over; while the machine is paused, later. */
  #whenRunning(boot: number, act: () => void): void {
    if (this.#ending !== null || boot !== this.#thread!.boots.number) return;
    if (this.#stopped !== null) this.#waiting.push({ boot, act });
    else act();
  }

  #requested(request: MachineRequest): void {
    if (request.kind === 'exit') void this.#end('debug-exit', undefined, request.status & 0xff);
    else if (request.kind === 'power-off') void this.#end('powered-off');
    else this.#guestReset(request.why);
  }

  /** A thread that nobody stopped is gone: one that another made fail, or one that was killed in whatever it did. */
  #threadGone(id: number, arena: Arena): void {
    if (this.#ending !== null || this.facts.value.state === 'starting') return;
    Atomics.store(arena.poison, 0, 1); // it may have held a lock
    setTimeout(() => this.#failFor(new Error(`the thread of CPU ${id} ended without a word`)), CAUSE_MS);
  }

  #guestStopped(id: number, stop: GuestStop): void {
    if (stop.kind === 'power-off') void this.#end('powered-off');
    else if (stop.kind === 'reset') this.#guestReset('the guest asked for it');
    else if (stop.kind === 'triple-fault') this.#tripleFault(id);
    else this.#crash(id, stop.why);
  }

  #tripleFault(id: number): void {
    this.#log.sayOfGuest('warning', `CPU ${id} could not handle an exception (triple fault), which resets a computer`);
    this.#fruitless = Date.now() - this.#bootedAt < FRUITLESS_MS ? this.#fruitless + 1 : 1;
    if (this.#fruitless >= FRUITLESS_RESETS) {
      this.#crash(id, `the guest reset itself ${FRUITLESS_RESETS} times without getting anywhere`);
      return;
    }
    this.#guestReset('triple fault');
  }

  #crash(id: number, why: string): void {
    const thread = this.#thread!;
    thread.states.pause();
    const lines = dumpRegisters(this.#parts!.vcpus[id]!);
    this.#log.say('error', `CPU ${id}: ${why}`);
    for (const line of lines) this.#log.say('error', line);
    void this.#end('failed', { attempted: 'run the guest', on: this.#config.name, why: `${why}.`, remedy: "The machine's log has the registers of the CPU.", code: 'guest-crash' });
  }

  #guestReset(why: string): void {
    this.#log.endLine();
    this.#log.sayOfGuest('info', `reset: ${why}`);
    if (this.#config.onReset === 'stop') void this.#end('reset');
    else void this.reset().catch(() => {}); // it has ended with the problem
  }

  /** A defect of ours, on whichever thread: the machine ends with words. */
  fail(thrown: unknown): void {
    if (this.#ending !== null) return;
    if (thrown instanceof PoisonedError) {
      setTimeout(() => this.#failFor(thrown), CAUSE_MS);
      return;
    }
    this.#failFor(thrown);
  }

  #failFor(thrown: unknown): void {
    if (this.#ending !== null) return;
    if (!(thrown instanceof VitrineError)) this.#log.say('error', thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
    void this.#end('failed', toProblem(thrown, 'keep the machine running', this.#config.name));
  }

  /** For what nobody waits for: timers, messages of threads. */
  #guard(act: () => void): void {
    try {
      act();
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** For what somebody asked for and stops half-way if it throws: the machine ends, and who asked is told. */
  #whole(act: () => void): void {
    try {
      act();
    } catch (thrown) {
      this.fail(thrown);
      throw thrown;
    }
  }

  // What people ask.

  #require(attempted: string): MachineThread {
    const { state } = this.facts.value;
    if (this.#thread === null || this.#ending !== null || (state !== 'running' && state !== 'paused')) {
      throw new VitrineError({ attempted, on: this.#config.name, why: `it is ${state === 'starting' ? 'still starting' : 'ending'}.`, remedy: '', code: 'not-running' });
    }
    return this.#thread;
  }

  async pause(): Promise<void> {
    const thread = this.#require('pause the machine');
    if (this.#stopped !== null) return;
    this.#whole(() => {
      thread.states.pause();
      thread.clock.pause();
      this.#services!.stop();
      this.#stopped = stopTime(thread.vm, this.#parts!.vcpus);
    });
    this.#pausedAt = Date.now();
    this.facts.update({ state: 'paused' });
    this.#log.say('info', 'paused');
  }

  async resume(): Promise<void> {
    const thread = this.#require('resume the machine');
    const stopped = this.#stopped;
    if (stopped === null) return;
    this.#whole(() => startTime(thread.vm, this.#parts!.vcpus, stopped));
    this.#stopped = null;
    this.facts.update({ pausedFor: this.facts.value.pausedFor + Date.now() - this.#pausedAt });
    this.#log.say('info', 'resumed');
    this.#run();
    for (const { boot, act } of this.#waiting.splice(0)) this.#whenRunning(boot, act);
  }

  async powerButton(): Promise<void> {
    const listens = this.#require('shut down the guest').devices.pm.powerButton();
    this.#log.say('info', `power button${listens ? '' : ': the guest does not listen for it'}`);
    if (!listens) {
      throw new VitrineError({ attempted: 'shut down the guest', on: this.#config.name, why: 'it does not listen for the power button.', remedy: 'Shut it down from inside, or force it off.', code: 'no-power-button' });
    }
    await this.resume();
  }

  listDevices(): PluggedDevice[] {
    this.#require('list the devices');
    return this.#hotPlug!.list();
  }

  async addDevice(device: DeviceConfig): Promise<{ slot: number; told: boolean }> {
    this.#require('add the device');
    return this.#hotPlug!.add(device);
  }

  async removeDevice(slot: number, options: { readonly force: boolean; readonly seconds: number }): Promise<void> {
    this.#require('remove the device');
    if (this.#stopped !== null && !options.force) {
      throw new VitrineError({ attempted: 'remove the device', on: this.#config.name, why: 'the guest is paused and cannot give it back.', remedy: 'Resume the machine first.', code: 'paused' });
    }
    await this.#hotPlug!.remove(slot, options);
  }

  async reset(): Promise<void> {
    const thread = this.#require('reset the machine');
    this.#whole(() => {
      thread.states.pause();
      this.#services!.stop();
      if (!thread.clock.paused) thread.clock.pause();
      this.#boot();
    });
    if (this.#stopped !== null) this.facts.update({ pausedFor: this.facts.value.pausedFor + Date.now() - this.#pausedAt });
    this.#stopped = null;
    this.#waiting = [];
    this.facts.update({ resets: this.facts.value.resets + 1 });
    this.#run();
  }

  async forceOff(): Promise<void> {
    await this.#end('forced');
  }

  async screenshot(): Promise<{ png: Uint8Array; width: number; height: number }> {
    const picture = this.#screen?.current() ?? null;
    if (picture === null) {
      const why = this.#config.display.kind === 'none' ? 'it has no display.' : 'the guest shows nothing.';
      throw new VitrineError({ attempted: 'take a screenshot', on: this.#config.name, why, remedy: '', code: 'no-picture' });
    }
    const { width, height, pixels } = picture;
    return { png: await encodePng(width, height, pixels), width, height };
  }

  async serialWrite(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    this.#require('write to the serial port');
    await this.#serialInput!.write(bytes, signal);
  }

  /** What answers where at this moment, and which of KVM's memory slots exist beside RAM's: for those who look into a machine. */
  addressMap(): AddressMap {
    const { devices, slots } = this.#require('look into the machine');
    const ranges = (bus: Bus): AddressRange[] => bus.ranges().map(({ start, size, handler, base }) => ({ name: bus.nameOf(handler), start, size, offset: start - base }));
    return devices.topology.run(() => ({ io: ranges(devices.io), memory: ranges(devices.memory), slots: slots.live() }));
  }

  key(code: number, down: boolean): void {
    if (this.#ending !== null) return;
    this.#thread?.devices.i8042.key(code, down);
    this.#screen?.expectChange();
  }

  pointer({ dx, dy, wheel, buttons }: PointerInput): void {
    if (this.#ending !== null) return;
    this.#thread?.devices.i8042.move(dx, dy, wheel, buttons);
    this.#screen?.expectChange();
  }

  attachViewer(viewer: ScreenViewer): ScreenAttachment {
    if (this.#screen === null && this.#config.display.kind !== 'none') this.#require('show the screen');
    if (this.#screen === null) {
      throw new VitrineError({ attempted: 'show the screen', on: this.#config.name, why: 'it has no display.', remedy: 'Its serial console is in the Console tab.', code: 'no-display' });
    }
    return this.#screen.attach(viewer);
  }

  watchStats(listener: (stats: MachineStats) => void): Unsubscribe {
    return this.#stats === null ? (): void => {} : this.#stats.watch(listener);
  }

  // Looking.

  #lookAtLeds(): void {
    if (this.#ending !== null || this.#thread === null) return;
    const bits = this.#thread.devices.i8042.leds();
    const leds = { caps: (bits & LED_CAPS) !== 0, num: (bits & LED_NUM) !== 0, scroll: (bits & LED_SCROLL) !== 0 };
    const now = this.facts.value.leds;
    if (leds.caps !== now.caps || leds.num !== now.num || leds.scroll !== now.scroll) this.facts.update({ leds });
  }

  #lookForHalt(): void {
    if (this.#ending !== null || this.#thread === null || this.#stopped !== null) return;
    const { states } = this.#thread;
    states.pause();
    // Twice in a row: an interrupt may be on its way to a CPU that looks halted for good.
    this.#haltedLooks = this.#parts!.vcpus.every(guestHalted) ? this.#haltedLooks + 1 : 0;
    if (this.#haltedLooks >= 2) void this.#end('halted');
    else states.resume();
  }

  // Ending.

  /** Begins to end the machine unless it is ending. @returns when it has ended, whatever ended it. Rejects never. */
  #end(how: Outcome['how'], problem?: Problem, exitCode?: number): Promise<void> {
    if (this.#ending === null) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#ending = promise;
      void this.#endAs({ endedAt: Date.now(), how, ...(exitCode === undefined ? {} : { exitCode }), ...(problem === undefined ? {} : { problem }) }).then(resolve);
    }
    return this.#ending;
  }

  async #endAs(outcome: Outcome): Promise<void> {
    const { how, problem } = outcome;
    this.facts.update({ state: 'stopping', ...(problem === undefined ? {} : { problem }) });
    if (problem !== undefined) this.#log.say('error', sentence(problem));
    for (const timer of this.#timers) clearInterval(timer);
    this.#hotPlug?.close();
    this.#services?.stop();
    this.#services?.drain();
    this.#log.endLine();
    try {
      await this.#join();
    } catch (thrown) {
      this.#log.say('error', `while it ended: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}`);
    }
    this.#serialInput?.close();
    this.#log.say('info', `ended: ${how}`);
    this.facts.update({ state: 'ended', outcome });
    this.#finish(outcome);
  }

  /** Every vCPU out of KVM_RUN and its thread gone, then the descriptors. A thread that does not go keeps them: its KVM_RUN finds what it knows. */
  async #join(): Promise<void> {
    const thread = this.#thread;
    if (thread !== null) {
      thread.states.stop();
      if (!thread.states.joined(JOIN_MS)) Atomics.store(thread.arena.poison, 0, 1);
    }
    const gone = this.#threads === null || (await this.#threads.ended(JOIN_MS));
    this.#screen?.close();
    if (gone) {
      this.#equipment?.close(thread?.devices.host.functions().map(({ device }) => device) ?? []);
      this.#parts?.close();
    } else this.#log.say('error', `${this.threadsLeft} of its threads did not end`);
  }

  /** Threads that have not ended although the machine has: then the process cannot exit in an orderly way. */
  get threadsLeft(): number {
    return this.#threads?.left ?? 0;
  }
}
