// A machine, as its control thread has it: begins (assembly.ts has what it is made of), carries out what guests and people ask for (reset,
// power, pause), and ends with an outcome. Everything here runs on the control thread; the vCPUs never wait for it.
import { sentence, toProblem, VitrineError, type Problem } from '../../shared/errors.ts';
import { changeWords, whyNotFor, type DeviceChange } from '../../shared/device-change.ts';
import type { DeviceConfig, MachineConfig } from '../../shared/machine-config.ts';
import { chooseSlots } from '../../shared/slots.ts';
import type { PointerInput, TabletInput } from '../../shared/protocol/input.ts';
import type { Backend, MachineStats, Outcome, PluggedDevice } from '../../shared/protocol/machine.ts';
import type { Bus } from '../bus/bus.ts';
import type { MachineRequest } from '../devices/device.ts';
import { encodePng } from '../display/png.ts';
import { SerialBacklog, Watched, type LogBacklog, type MachineControl, type MachineFacts, type ScreenAttachment, type ScreenViewer, type Unsubscribe } from '../server/control.ts';
import { PoisonedError } from '../sync/mutex.ts';
import { Assembly } from './assembly.ts';
import { Balloons } from './balloons.ts';
import { Consoles } from './consoles.ts';
import { entryFile } from './entry.ts';
import { guestHalted } from './guest-halted.ts';
import { startTime, stopTime, type StoppedTime } from './guest-time.ts';
import { MachineLog } from './machine-log.ts';
import { dumpRegisters } from './register-dump.ts';
import type { InputMail } from '../virtio/input/backend.ts';
import type { DeviceNews } from '../virtio/news.ts';
import type { ThreadMessage } from './thread-platform.ts';
import type { GuestStop } from './vcpu-loop.ts';
import type { VcpuMessage } from './vcpu-worker.ts';

/** Triple faults in a row, each this soon after the last boot, that end a machine which would reset for ever. */
const FRUITLESS_RESETS = 3;
const FRUITLESS_MS = 5000;
const HALT_CHECK_MS = 500;
/** For requests of its devices that are under way. */
const PAUSE_MS = 10_000;
const LED_CHECK_MS = 200;
/** Patience with a guest whose device the host wants back. */
const WANTED_BACK_SECONDS = 60;
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
  readonly #consoles: Consoles;
  readonly #balloons: Balloons;
  #finish!: (outcome: Outcome) => void;
  /** Null before it was put together, and when that failed. */
  #built: Assembly | null = null;
  #stopped: StoppedTime | null = null;
  /** What the guest asked for just before it was paused, and what stopped its vCPUs: done when it runs again, for guest time stands still. */
  #waiting: { boot: number; act: () => void }[] = [];
  #pausedAt = 0;
  #bootedAt = 0;
  #fruitless = 0;
  #haltedLooks = 0;
  /** Keys that are down at a virtio keyboard. */
  readonly #heldAtVirtio = new Set<number>();
  /** As the virtio keyboard has them, while its driver works it. */
  #virtioLamps = 0;
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
      backend, cpus: config.cpus, memory: config.memory, display: config.display.kind, leds: { caps: false, num: false, scroll: false }, tablet: false,
    });
    const send = (slot: number, mail: unknown): Promise<unknown> => this.#tellDevice(slot, mail);
    this.#consoles = new Consoles({ send, changed: (consoles) => this.facts.update({ consoles }) });
    this.#expectConsoles();
    this.#balloons = new Balloons({ name: config.name, send, changed: (balloon) => this.facts.update({ balloon }) });
  }

  /** Those that the machine's file has: who wants every byte of one watches it before the start. */
  #expectConsoles(): void {
    const { devices } = this.#config;
    let slots: number[];
    try {
      slots = chooseSlots(devices);
    } catch {
      return; // the start says so
    }
    devices.forEach((device, index) => {
      if (device.kind === 'virtio-console') this.#consoles.expect(slots[index]!, device.ports);
    });
  }

  async #tellDevice(slot: number, mail: unknown): Promise<unknown> {
    return this.#built!.tellDevice(slot, mail);
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
      const built = (this.#built = this.#build());
      await built.ready;
      if (this.#ending !== null) return this.#ending;
      this.#boot(built);
      this.#run(built);
    } catch (thrown) {
      await this.#end('failed', toProblem(thrown, 'start the machine', this.#config.name));
    }
  }

  #build(): Assembly {
    return new Assembly(this.#config, this.#vcpuEntry, {
      log: (level, text) => this.#log.say(level, text),
      heard: (message) => this.#guard(() => this.#heard(message)),
      heardVcpu: (message) => this.#heardVcpu(message),
      serialOutput: (bytes) => this.serial.push(bytes),
      debugOutput: (bytes) => this.#log.debugOutput(bytes),
      screenSize: (size) => this.facts.update({ screen: size === null ? undefined : { width: size.width, height: size.height } }),
      wantedBack: (slot, address) => this.#guard(() => this.#wantedBack(slot, address)),
      gateMoved: () => this.#balloons.gateMoved(),
      guestMemory: () => this.#balloons.guest,
      statsWatched: (on) => this.#balloons.watch(on),
      told: (slot, news) => this.#guard(() => this.#told(slot, news)),
      threadFailed: (thrown) => {
        if (this.facts.value.state !== 'starting') this.fail(thrown);
      },
      threadGone: (id) => this.#threadGone(id),
      failed: (thrown) => this.fail(thrown),
    });
  }

  #told(slot: number, news: DeviceNews): void {
    if (news.kind === 'gone') {
      this.#consoles.gone(slot);
      this.#balloons.gone(slot);
    }
    // The guest's last words come when it has ended.
    if (this.#consoles.told(slot, news) || this.#ending !== null) return;
    if (news.kind === 'lamps') this.#virtioLamps = news.lamps;
    else if (news.kind === 'pause') {
      if (this.#stopped === null) this.#pauseFor(slot, news.problem);
    } else this.#balloons.told(slot, news);
  }

  #pauseFor(slot: number, problem: Problem): void {
    this.#log.say('error', `the device in slot ${slot} cannot go on, so the machine pauses: ${sentence(problem)}`);
    this.facts.update({ problem });
    this.pause().catch((thrown: unknown) => this.#log.say('error', sentence(toProblem(thrown, 'pause the machine', this.#config.name))));
  }

  /** The host wants a device back: the guest is asked for it. */
  #wantedBack(slot: number, address: string): void {
    this.#log.say('warning', `the host wants its device ${address} back`);
    this.#built?.hotPlug.remove(slot, { force: false, seconds: WANTED_BACK_SECONDS }).catch((thrown: unknown) => this.#log.say('warning', sentence(toProblem(thrown, 'give the device back', address))));
  }

  #boot(built: Assembly): void {
    built.boot();
    this.#bootedAt = Date.now();
  }

  #run(built: Assembly): void {
    const { thread, services } = built;
    built.resumeIo();
    thread.clock.resume();
    thread.states.resume();
    services.start();
    this.facts.update({ state: 'running', problem: undefined, firstRunAt: this.facts.value.firstRunAt ?? Date.now() });
    if (this.#timers.length > 0) return;
    this.#timers.push(setInterval(() => this.#guard(() => this.#lookAtLeds()), LED_CHECK_MS));
    if (this.#config.exitOnHalt) this.#timers.push(setInterval(() => this.#guard(() => this.#lookForHalt()), HALT_CHECK_MS));
  }

  // What threads say.

  #heard(message: ThreadMessage): void {
    if (this.#ending !== null) return;
    if (message.kind === 'attention') this.#built?.services.attend();
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
    if (this.#ending !== null || boot !== this.#built!.thread.boots.number) return;
    if (this.#stopped !== null) this.#waiting.push({ boot, act });
    else act();
  }

  #requested(request: MachineRequest): void {
    if (request.kind === 'exit') void this.#end('debug-exit', undefined, request.status & 0xff);
    else if (request.kind === 'power-off') void this.#end('powered-off');
    else this.#guestReset(request.why);
  }

  /** A thread that nobody stopped is gone: one that another made fail, or one that was killed in whatever it did. */
  #threadGone(id: number): void {
    if (this.#ending !== null || this.facts.value.state === 'starting') return;
    this.#built!.poison(); // it may have held a lock
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
    const { thread, parts } = this.#built!;
    thread.states.pause();
    const lines = dumpRegisters(parts.vcpus[id]!);
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

  #require(attempted: string): Assembly {
    const { state } = this.facts.value;
    if (this.#built === null || this.#ending !== null || (state !== 'running' && state !== 'paused')) {
      throw new VitrineError({ attempted, on: this.#config.name, why: `it is ${state === 'starting' ? 'still starting' : 'ending'}.`, remedy: '', code: 'not-running' });
    }
    return this.#built;
  }

  async pause(): Promise<void> {
    const built = this.#require('pause the machine');
    const { thread, services, parts } = built;
    if (this.#stopped !== null) return;
    this.#whole(() => thread.states.pause());
    const busy = built.pauseIo(PAUSE_MS);
    if (busy.length > 0) {
      built.resumeIo();
      thread.states.resume();
      throw new VitrineError({ attempted: 'pause the machine', on: this.#config.name, why: `the host does not end what ${busy.join(' and ')} asked of it.`, remedy: 'Try again later; the log of the host may say what is wrong with a disk or a network folder.', code: 'device-busy' });
    }
    this.#whole(() => {
      thread.clock.pause();
      services.stop();
      this.#stopped = stopTime(thread.vm, parts.vcpus);
    });
    this.#pausedAt = Date.now();
    this.facts.update({ state: 'paused' });
    this.#log.say('info', 'paused');
  }

  async resume(): Promise<void> {
    const built = this.#require('resume the machine');
    const stopped = this.#stopped;
    if (stopped === null) return;
    this.#whole(() => startTime(built.thread.vm, built.parts.vcpus, stopped));
    this.#stopped = null;
    this.facts.update({ pausedFor: this.facts.value.pausedFor + Date.now() - this.#pausedAt });
    this.#log.say('info', 'resumed');
    this.#run(built);
    for (const { boot, act } of this.#waiting.splice(0)) this.#whenRunning(boot, act);
  }

  async powerButton(): Promise<void> {
    const listens = this.#require('shut down the guest').thread.devices.pm.powerButton();
    this.#log.say('info', `power button${listens ? '' : ': the guest does not listen for it'}`);
    if (!listens) {
      throw new VitrineError({ attempted: 'shut down the guest', on: this.#config.name, why: 'it does not listen for the power button.', remedy: 'Shut it down from inside, or force it off.', code: 'no-power-button' });
    }
    await this.resume();
  }

  listDevices(): PluggedDevice[] {
    return this.#require('list the devices').hotPlug.list();
  }

  async addDevice(device: DeviceConfig): Promise<{ slot: number; told: boolean }> {
    return this.#require('add the device').hotPlug.add(device);
  }

  async removeDevice(slot: number, options: { readonly force: boolean; readonly seconds: number }): Promise<void> {
    const { hotPlug } = this.#require('remove the device');
    if (this.#stopped !== null && !options.force) {
      throw new VitrineError({ attempted: 'remove the device', on: this.#config.name, why: 'the guest is paused and cannot give it back.', remedy: 'Resume the machine first.', code: 'paused' });
    }
    await hotPlug.remove(slot, options);
  }

  async changeDevice(slot: number, change: DeviceChange): Promise<void> {
    const attempted = 'change the device';
    const built = this.#require(attempted);
    const device = built.hotPlug.configAt(slot);
    const why = device === undefined ? 'no device that can be changed is there.' : whyNotFor(device, change);
    if (why !== null) throw new VitrineError({ attempted, on: `slot ${slot} of ${this.#config.name}`, why, remedy: '', code: device === undefined ? 'no-such-device' : 'wrong-device' });
    // passt is the control thread's, all else the backend's.
    if (change.kind === 'forwards') await built.forward(slot, change.forwards);
    else await built.tellDevice(slot, change);
    this.#log.say('info', `slot ${slot}: ${changeWords(change)}`);
  }

  async reset(): Promise<void> {
    const built = this.#require('reset the machine');
    const { states, clock } = built.thread;
    this.#whole(() => {
      states.pause();
      built.services.stop();
      if (!clock.paused) clock.pause();
      this.#boot(built);
    });
    if (this.#stopped !== null) this.facts.update({ pausedFor: this.facts.value.pausedFor + Date.now() - this.#pausedAt });
    this.#stopped = null;
    this.#waiting = [];
    this.facts.update({ resets: this.facts.value.resets + 1 });
    this.#run(built);
  }

  async forceOff(): Promise<void> {
    await this.#end('forced');
  }

  async screenshot(): Promise<{ png: Uint8Array; width: number; height: number }> {
    const picture = this.#built?.screen?.current() ?? null;
    if (picture === null) {
      const why = this.#config.display.kind === 'none' ? 'it has no display.' : 'the guest shows nothing.';
      throw new VitrineError({ attempted: 'take a screenshot', on: this.#config.name, why, remedy: '', code: 'no-picture' });
    }
    const { width, height, pixels } = picture;
    return { png: await encodePng(width, height, pixels), width, height };
  }

  async serialWrite(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#require('write to the serial port').serialInput.write(bytes, signal);
  }

  console(slot: number, port: number): SerialBacklog {
    return this.#consoles.backlog(slot, port);
  }

  async consoleWrite(slot: number, port: number, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    this.#require('write to a console');
    await this.#consoles.write(slot, port, bytes, signal);
  }

  async consoleSize(slot: number, port: number, columns: number, rows: number): Promise<void> {
    this.#require('change the size of a console');
    await this.#consoles.resize(slot, port, columns, rows);
  }

  async setBalloon(bytes: number): Promise<void> {
    this.#require('change the guest\'s memory');
    await this.#balloons.set(bytes);
  }

  /** What answers where at this moment, and which of KVM's memory slots exist beside RAM's: for those who look into a machine. */
  addressMap(): AddressMap {
    const { devices, slots } = this.#require('look into the machine').thread;
    const ranges = (bus: Bus): AddressRange[] => bus.ranges().map(({ start, size, handler, base }) => ({ name: bus.nameOf(handler), start, size, offset: start - base }));
    return devices.topology.run(() => ({ io: ranges(devices.io), memory: ranges(devices.memory), slots: slots.live() }));
  }

  key(code: number, down: boolean): void {
    if (this.#ending !== null || this.#built === null) return;
    const { hotPlug, thread, screen } = this.#built;
    // A key is let go at the keyboard that it was pressed at, whichever works by now.
    const keyboard = down || this.#heldAtVirtio.has(code) ? hotPlug.inputSlot('keyboard') : undefined;
    if (keyboard === undefined) thread.devices.i8042.key(code, down);
    else this.#tellInput(keyboard, { kind: 'key', code, down });
    if (down && keyboard !== undefined) this.#heldAtVirtio.add(code);
    else this.#heldAtVirtio.delete(code);
    screen?.expectChange();
  }

  pointer({ dx, dy, wheel, buttons }: PointerInput): void {
    if (this.#ending !== null) return;
    this.#built?.thread.devices.i8042.move(dx, dy, wheel, buttons);
    this.#built?.screen?.expectChange();
  }

  tablet({ x, y, wheel, buttons }: TabletInput): void {
    if (this.#ending !== null || this.#built === null) return;
    const slot = this.#built.hotPlug.inputSlot('tablet');
    if (slot === undefined) return;
    this.#tellInput(slot, { kind: 'tablet', x, y, wheel, buttons });
    this.#built.screen?.expectChange();
  }

  #tellInput(slot: number, mail: InputMail): void {
    this.#built!.tellDevice(slot, mail).catch(() => {}); // it has gone meanwhile
  }

  attachViewer(viewer: ScreenViewer): ScreenAttachment {
    if (this.#built === null && this.#config.display.kind !== 'none') this.#require('show the screen');
    const screen = this.#built?.screen ?? null;
    if (screen === null) {
      throw new VitrineError({ attempted: 'show the screen', on: this.#config.name, why: 'it has no display.', remedy: 'Its serial console is in the Console tab.', code: 'no-display' });
    }
    return screen.attach(viewer);
  }

  watchStats(listener: (stats: MachineStats) => void): Unsubscribe {
    return this.#built === null ? (): void => {} : this.#built.stats.watch(listener);
  }

  // Looking.

  #lookAtLeds(): void {
    if (this.#ending !== null || this.#built === null) return;
    const { hotPlug, thread } = this.#built;
    const bits = hotPlug.inputSlot('keyboard') === undefined ? thread.devices.i8042.leds() : this.#virtioLamps;
    const tablet = hotPlug.inputSlot('tablet') !== undefined;
    if (tablet !== this.facts.value.tablet) this.facts.update({ tablet });
    const leds = { caps: (bits & LED_CAPS) !== 0, num: (bits & LED_NUM) !== 0, scroll: (bits & LED_SCROLL) !== 0 };
    const now = this.facts.value.leds;
    if (leds.caps !== now.caps || leds.num !== now.num || leds.scroll !== now.scroll) this.facts.update({ leds });
  }

  #lookForHalt(): void {
    if (this.#ending !== null || this.#built === null || this.#stopped !== null) return;
    const { states } = this.#built.thread;
    states.pause();
    // Twice in a row: an interrupt may be on its way to a CPU that looks halted for good.
    this.#haltedLooks = this.#built.parts.vcpus.every(guestHalted) ? this.#haltedLooks + 1 : 0;
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
    this.#built?.hotPlug.close();
    this.#consoles.close();
    this.#built?.services.stop();
    this.#built?.services.drain();
    this.#log.endLine();
    try {
      if (this.#built !== null && !(await this.#built.close())) this.#log.say('error', `${this.threadsLeft} of its threads did not end`);
    } catch (thrown) {
      this.#log.say('error', `while it ended: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}`);
    }
    this.#log.say('info', `ended: ${how}`);
    this.facts.update({ state: 'ended', outcome });
    this.#finish(outcome);
  }

  /** Threads that have not ended although the machine has: then the process cannot exit in an orderly way. */
  get threadsLeft(): number {
    return this.#built?.threadsLeft ?? 0;
  }
}
