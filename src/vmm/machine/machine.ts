// A machine, as its control thread has it: builds the VM, starts a Worker per vCPU, carries out what guests and people ask for (reset,
// power, pause), and ends with an outcome. Everything here runs on the control thread; the vCPUs never wait for it.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { sentence, toProblem, VitrineError, type Problem } from '../../shared/errors.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { PointerInput } from '../../shared/protocol/input.ts';
import type { Backend, MachineStats, Outcome } from '../../shared/protocol/machine.ts';
import type { MachineRequest } from '../devices/device.ts';
import { VRAM_BYTES } from '../display/adapter.ts';
import { encodePng } from '../display/png.ts';
import { ScreenSource } from '../display/screen-source.ts';
import { GsiRouting } from '../irq/routing.ts';
import { KVM_IDENTITY_MAP, KVM_TSS } from '../arch/x86/layout.ts';
import { Kvm } from '../kvm/kvm.ts';
import { advise, close, MADV_DONTDUMP, MADV_DONTFORK, MADV_HUGEPAGE } from '../kvm/libc.ts';
import { Vcpu } from '../kvm/vcpu.ts';
import { Vm } from '../kvm/vm.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { allocateWindow, type Window } from '../memory/window.ts';
import { LogBacklog, SerialBacklog, Watched, type MachineControl, type MachineFacts, type ScreenAttachment, type ScreenViewer, type Unsubscribe } from '../server/control.ts';
import { Arena } from '../sync/arena.ts';
import { CpuSetup } from '../arch/x86/cpu/cpu-setup.ts';
import { directBoot, fwCfgItems } from './direct-boot.ts';
import { entryFile } from './entry.ts';
import { guestHalted } from './guest-halted.ts';
import { startTime, stopTime, type StoppedTime } from './guest-time.ts';
import { checkHostLimits } from './host-limits.ts';
import { readChips, writeChips, type ChipState } from './initial-chips.ts';
import { installKickHandler } from './kick.ts';
import { dumpRegisters } from './register-dump.ts';
import { SerialInput } from './serial-input.ts';
import { ServiceLoop } from './service-loop.ts';
import { StatsWatch } from './stats-watch.ts';
import { buildThread, type MachineThread, type ThreadDescription } from './thread.ts';
import type { ThreadMessage } from './thread-platform.ts';
import type { GuestStop } from './vcpu-loop.ts';
import type { VcpuMessage, VcpuWorkerData } from './vcpu-worker.ts';
import { VramLog } from './vram-log.ts';

/** Triple faults in a row, each this soon after the last boot, that end a machine which would reset for ever. */
const FRUITLESS_RESETS = 3;
const FRUITLESS_MS = 5000;
const HALT_CHECK_MS = 500;
const LED_CHECK_MS = 200;
const JOIN_MS = 5000;

const LED_SCROLL = 1;
const LED_NUM = 2;
const LED_CAPS = 4;

export interface MachineOptions {
  readonly config: MachineConfig;
  readonly backend: Backend;
  /** A further place for the machine's log lines: standard error, which is the machine's log file. */
  readonly log?: (text: string) => void;
}

export class Machine implements MachineControl {
  readonly facts: Watched<MachineFacts>;
  readonly serial = new SerialBacklog();
  readonly log = new LogBacklog();
  /** Resolves once, when the machine has ended and its threads are gone. */
  readonly ended: Promise<Outcome>;

  readonly #config: MachineConfig;
  readonly #logLine: (text: string) => void;
  #finish!: (outcome: Outcome) => void;
  #kvm: Kvm | null = null;
  #vm: Vm | null = null;
  #vcpus: Vcpu[] = [];
  #workers: Worker[] = [];
  #thread: MachineThread | null = null;
  #cpus: CpuSetup | null = null;
  #chips: ChipState | null = null;
  #screen: ScreenSource | null = null;
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
  #ending = false;
  #timers: NodeJS.Timeout[] = [];

  constructor({ config, backend, log }: MachineOptions) {
    this.#config = config;
    this.#logLine = log ?? ((): void => {});
    this.ended = new Promise((resolve) => (this.#finish = resolve));
    this.facts = new Watched<MachineFacts>({
      id: config.id, name: config.name, state: 'starting', pid: process.pid, euid: process.geteuid!(), startedAt: Date.now(), pausedFor: 0, resets: 0,
      backend, cpus: config.cpus, memory: config.memory, display: config.display.kind, leds: { caps: false, num: false, scroll: false },
    });
  }

  // Starting.

  /** Builds the machine and lets it run. When it cannot, the machine ends as 'failed' with the problem; nothing is thrown. */
  async start(): Promise<void> {
    try {
      await this.#build();
      this.#boot();
      this.#run();
    } catch (thrown) {
      await this.#end('failed', toProblem(thrown, 'start the machine', this.#config.name));
    }
  }

  async #build(): Promise<void> {
    const config = this.#config;
    const kvm = (this.#kvm = Kvm.open());
    checkHostLimits(config, kvm);
    installKickHandler();
    const vm = (this.#vm = new Vm(kvm.createVm()));
    vm.placeSystemPages(KVM_TSS, KVM_IDENTITY_MAP);
    vm.createInterruptControllers();
    new GsiRouting((routes) => vm.setRouting(routes)).commit(); // KVM's own table takes the timer to IOAPIC pin 0; ACPI says pin 2, as on every PC
    const ram = GuestMemory.allocate(config.memory);
    ram.windows.forEach((window, slot) => {
      const hva = ram.windowHva(slot);
      for (const advice of [MADV_HUGEPAGE, MADV_DONTFORK, MADV_DONTDUMP]) advise(hva, window.size, advice);
      vm.setMemoryRegion({ slot, gpa: window.gpa, size: window.size, hva, dirtyLog: false, readonly: false });
    });
    const vcpus = Array.from({ length: config.cpus }, (_, id) => new Vcpu(vm.createVcpu(id), id));
    this.#vcpus = vcpus;
    const cpus = (this.#cpus = new CpuSetup(kvm, vcpus));
    cpus.setCpuids();
    this.#chips = readChips(vm);
    const runs = vcpus.map((vcpu) => vcpu.mapRun(kvm.limits.runBytes));

    const vram = config.display.kind === 'canvas' ? allocateWindow(VRAM_BYTES) : null;
    if (vram !== null) for (const advice of [MADV_DONTFORK, MADV_DONTDUMP]) advise(vram.address, vram.size, advice);
    const arena = new Arena();
    const description: ThreadDescription = {
      arena: arena.describe(),
      vm: vm.fd,
      ram: ram.windows,
      runs: runs.map((run) => run.buffer),
      devices: {
        cpus: config.cpus,
        physicalBits: cpus.physicalBits,
        display: config.display.kind === 'canvas' ? { width: config.display.width, height: config.display.height, vram: vram!.buffer } : undefined,
        testDevices: config.testDevices,
        fwCfg: fwCfgItems(config.memory, config.cpus).describe(),
      },
    };
    const thread = buildThread(description, -1, (message) => setImmediate(() => this.#heard(message)), arena, {
      onSerialOutput: (bytes) => this.serial.push(bytes),
      onSerialRoom: () => this.#serialInput?.resume(),
      onDebugOutput: (bytes) => this.#say('debug', `debug port: ${Buffer.from(bytes).toString('latin1').trimEnd()}`),
    });
    this.#thread = thread;
    this.#services = new ServiceLoop(thread.devices.all, thread.clock, thread.attention, (thrown) => this.#failed(thrown));
    this.#serialInput = new SerialInput(thread.devices.serial);
    this.#stats = new StatsWatch(thread.states, () => this.#screen?.frames ?? 0);
    if (vram !== null) this.#openScreen(thread, vram);
    thread.states.holdBeforeStart();
    thread.clock.begin();
    await this.#startWorkers(description);
  }

  #openScreen(thread: MachineThread, vram: Window): void {
    const display = thread.devices.display!;
    const log = new VramLog({ vm: thread.vm, slots: thread.slots, topology: thread.devices.topology, bus: thread.devices.memory, display });
    this.#screen = new ScreenSource({
      adapter: display, vram, log,
      onModeChange: (size) => this.facts.update({ screen: size === null ? undefined : { width: size.width, height: size.height } }),
    });
  }

  async #startWorkers(description: ThreadDescription): Promise<void> {
    const ready = this.#vcpus.map((vcpu) => {
      const data: VcpuWorkerData = { thread: description, id: vcpu.id, fd: vcpu.fd };
      const worker = new Worker(entryFile('vcpu'), { workerData: data });
      this.#workers.push(worker);
      return new Promise<void>((resolve, reject) => {
        worker.on('message', (message: VcpuMessage) => (message.kind === 'ready' ? resolve() : this.#heardVcpu(message)));
        worker.once('error', (error) => {
          reject(error);
          this.#failed(error);
        });
      });
    });
    await Promise.all(ready);
  }

  /** Devices and CPUs as after power-on, and the kernel in RAM. Every vCPU is parked or has not begun. */
  #boot(): void {
    const thread = this.#thread!;
    const config = this.#config;
    writeChips(thread.vm, this.#chips!);
    thread.lines.reset();
    for (const device of thread.devices.all) device.reset();
    thread.devices.host.reset();
    const entry = directBoot({
      ram: thread.ram,
      devices: thread.devices,
      kernel: config.boot.kernel,
      initrd: config.boot.initrd,
      append: config.boot.append,
      apicIds: this.#vcpus.map((vcpu) => vcpu.id),
      mode: config.display.kind === 'canvas' ? { width: config.display.width, height: config.display.height } : null,
    });
    this.#cpus!.reset(entry);
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
    this.#timers.push(setInterval(() => this.#lookAtLeds(), LED_CHECK_MS));
    if (this.#config.exitOnHalt) this.#timers.push(setInterval(() => this.#lookForHalt(), HALT_CHECK_MS));
  }

  // What threads say.

  #heard(message: ThreadMessage): void {
    if (this.#ending) return;
    if (message.kind === 'attention') this.#services?.attend();
    else if (message.kind === 'log') this.#say('info', `${message.label}: ${message.text}`);
    else this.#whenRunning(message.boot, () => this.#requested(message.request));
  }

  #heardVcpu(message: Exclude<VcpuMessage, { kind: 'ready' }>): void {
    if (message.kind === 'failed') this.#failed(new Error(message.why));
    else if (message.kind === 'stopped') this.#whenRunning(message.boot, () => this.#guestStopped(message.id, message.stop));
    else this.#heard(message);
  }

  /** Does what a message of boot number `boot` asks, unless that life of the guest is over; while the machine is paused, later. */
  #whenRunning(boot: number, act: () => void): void {
    if (this.#ending || boot !== this.#thread!.boots.number) return;
    if (this.#stopped !== null) this.#waiting.push({ boot, act });
    else act();
  }

  #requested(request: MachineRequest): void {
    if (request.kind === 'exit') void this.#end('debug-exit', undefined, request.status & 0xff);
    else if (request.kind === 'power-off') void this.#end('powered-off');
    else this.#guestReset(request.why);
  }

  #guestStopped(id: number, stop: GuestStop): void {
    if (stop.kind === 'power-off') void this.#end('powered-off');
    else if (stop.kind === 'reset') this.#guestReset('the guest asked for it');
    else if (stop.kind === 'triple-fault') this.#tripleFault(id);
    else this.#crash(id, stop.why);
  }

  #tripleFault(id: number): void {
    this.#say('warning', `CPU ${id} could not handle an exception (triple fault), which resets a computer`);
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
    const lines = dumpRegisters(this.#vcpus[id]!);
    this.#say('error', `CPU ${id}: ${why}`);
    for (const line of lines) this.#say('error', line);
    void this.#end('failed', { attempted: 'run the guest', on: this.#config.name, why: `${why}.`, remedy: "The machine's log has the registers of the CPU.", code: 'guest-crash' });
  }

  #guestReset(why: string): void {
    this.#say('info', `reset: ${why}`);
    if (this.#config.onReset === 'stop') void this.#end('reset');
    else void this.reset().catch((thrown: unknown) => this.#failed(thrown));
  }

  /** A defect of ours, on whichever thread: the machine ends with words. */
  #failed(thrown: unknown): void {
    if (this.#ending) return;
    this.#say('error', thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
    void this.#end('failed', toProblem(thrown, 'keep the machine running', this.#config.name));
  }

  #say(level: 'debug' | 'info' | 'warning' | 'error', text: string): void {
    this.log.push(level, text);
    this.#logLine(`${new Date().toISOString()} ${level} ${text}`);
  }

  // What people ask.

  #require(attempted: string): MachineThread {
    const { state } = this.facts.value;
    if (this.#thread === null || this.#ending || (state !== 'running' && state !== 'paused')) {
      throw new VitrineError({ attempted, on: this.#config.name, why: `it is ${state === 'starting' ? 'still starting' : 'ending'}.`, remedy: '', code: 'not-running' });
    }
    return this.#thread;
  }

  async pause(): Promise<void> {
    const thread = this.#require('pause the machine');
    if (this.#stopped !== null) return;
    thread.states.pause();
    thread.clock.pause();
    this.#services!.stop();
    this.#stopped = stopTime(thread.vm, this.#vcpus);
    this.#pausedAt = Date.now();
    this.facts.update({ state: 'paused' });
    this.#say('info', 'paused');
  }

  async resume(): Promise<void> {
    const thread = this.#require('resume the machine');
    if (this.#stopped === null) return;
    startTime(thread.vm, this.#vcpus, this.#stopped);
    this.#stopped = null;
    this.facts.update({ pausedFor: this.facts.value.pausedFor + Date.now() - this.#pausedAt });
    this.#say('info', 'resumed');
    this.#run();
    for (const { boot, act } of this.#waiting.splice(0)) this.#whenRunning(boot, act);
  }

  async powerButton(): Promise<void> {
    const thread = this.#require('shut down the guest');
    if (this.#stopped !== null) await this.resume();
    const listens = thread.devices.pm.powerButton();
    this.#say('info', `power button${listens ? '' : ': the guest does not listen for it'}`);
    if (!listens) {
      throw new VitrineError({ attempted: 'shut down the guest', on: this.#config.name, why: 'it does not listen for the power button.', remedy: 'Shut it down from inside, or force it off.', code: 'no-power-button' });
    }
  }

  async reset(): Promise<void> {
    const thread = this.#require('reset the machine');
    thread.states.pause();
    this.#services!.stop();
    if (!thread.clock.paused) thread.clock.pause();
    if (this.#stopped !== null) this.facts.update({ pausedFor: this.facts.value.pausedFor + Date.now() - this.#pausedAt });
    this.#stopped = null;
    this.#waiting = [];
    this.#boot();
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

  key(code: number, down: boolean): void {
    if (this.#ending) return;
    this.#thread?.devices.i8042.key(code, down);
    this.#screen?.expectChange();
  }

  pointer({ dx, dy, wheel, buttons }: PointerInput): void {
    if (this.#ending) return;
    this.#thread?.devices.i8042.move(dx, dy, wheel, buttons);
    this.#screen?.expectChange();
  }

  attachViewer(viewer: ScreenViewer): ScreenAttachment {
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
    if (this.#ending || this.#thread === null) return;
    const bits = this.#thread.devices.i8042.leds();
    const leds = { caps: (bits & LED_CAPS) !== 0, num: (bits & LED_NUM) !== 0, scroll: (bits & LED_SCROLL) !== 0 };
    const now = this.facts.value.leds;
    if (leds.caps !== now.caps || leds.num !== now.num || leds.scroll !== now.scroll) this.facts.update({ leds });
  }

  #lookForHalt(): void {
    if (this.#ending || this.#thread === null || this.#stopped !== null) return;
    const { states } = this.#thread;
    states.pause();
    // Twice in a row: an interrupt may be on its way to a CPU that looks halted for good.
    this.#haltedLooks = this.#vcpus.every(guestHalted) ? this.#haltedLooks + 1 : 0;
    if (this.#haltedLooks >= 2) void this.#end('halted');
    else states.resume();
  }

  // Ending.

  async #end(how: Outcome['how'], problem?: Problem, exitCode?: number): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    this.facts.update({ state: 'stopping', ...(problem === undefined ? {} : { problem }) });
    if (problem !== undefined) this.#say('error', sentence(problem));
    for (const timer of this.#timers) clearInterval(timer);
    this.#services?.stop();
    this.#services?.drain();
    const outcome: Outcome = { endedAt: Date.now(), how, ...(exitCode === undefined ? {} : { exitCode }), ...(problem === undefined ? {} : { problem }) };
    await this.#join();
    this.#serialInput?.close();
    this.#say('info', `ended: ${how}`);
    this.facts.update({ state: 'ended', outcome });
    this.#finish(outcome);
  }

  /** Every vCPU out of KVM_RUN and its thread gone, then the descriptors. */
  async #join(): Promise<void> {
    const thread = this.#thread;
    if (thread !== null) {
      thread.states.stop();
      if (!thread.states.joined(JOIN_MS)) Atomics.store(thread.arena.poison, 0, 1);
    }
    await Promise.all(this.#workers.map((worker) => (worker.threadId === -1 ? undefined : Promise.race([once(worker, 'exit'), new Promise((resolve) => setTimeout(resolve, JOIN_MS).unref())]))));
    this.#screen?.close();
    for (const vcpu of this.#vcpus) close(vcpu.fd);
    this.#vm?.close();
    this.#kvm?.close();
  }
}
