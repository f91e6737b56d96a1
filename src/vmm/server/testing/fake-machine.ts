// A machine without a VMM, for tests of the server, the launcher, the front and the CLI: it notes what is asked of it, echoes what is
// written to its serial port, and sends frames of any size when told to.
import { VitrineError } from '../../../shared/errors.ts';
import type { PointerInput, TabletInput } from '../../../shared/protocol/input.ts';
import { changeWords, whyNotFor, type DeviceChange } from '../../../shared/device-change.ts';
import type { DeviceConfig } from '../../../shared/machine-config.ts';
import type { MachineStats, PluggedDevice } from '../../../shared/protocol/machine.ts';
import type { MachineControl, MachineFacts, ScreenAttachment, ScreenViewer, Unsubscribe } from '../control.ts';
import { LogBacklog, SerialBacklog, Watched } from '../control.ts';

export class FakeMachine implements MachineControl {
  readonly facts: Watched<MachineFacts>;
  readonly serial = new SerialBacklog();
  readonly log = new LogBacklog();
  /** What was asked, in order: "pause", "key 30 down". */
  readonly asked: string[] = [];
  readonly viewers = new Map<string, ScreenViewer>();
  readonly acknowledged: number[] = [];
  /** Of its file, and added, and not removed: each in its slot, or from slot 3 on. */
  readonly devices: DeviceConfig[] = [];
  /** Called by forceOff and powerButton: how the machine ends is the test's business. */
  onOff: (how: 'forced' | 'powered-off') => void = () => {};

  constructor(id = 'fake', name = 'Fake machine') {
    this.facts = new Watched<MachineFacts>({
      id, name, state: 'running', pid: process.pid, euid: process.geteuid!(), startedAt: Date.now(), pausedFor: 0, resets: 0, backend: 'kvm',
      cpus: 1, memory: 64 * 2 ** 20, display: 'canvas', screen: { width: 640, height: 480 }, leds: { caps: false, num: false, scroll: false }, tablet: false,
    });
  }

  watchStats(listener: (stats: MachineStats) => void): Unsubscribe {
    listener({ at: Date.now(), cpu: [0.5], exits: { io: 10 }, frames: 0, resident: 1000 });
    return () => {};
  }

  async pause(): Promise<void> {
    this.asked.push('pause');
    this.facts.update({ state: 'paused' });
  }

  async resume(): Promise<void> {
    this.asked.push('resume');
    this.facts.update({ state: 'running' });
  }

  async powerButton(): Promise<void> {
    this.asked.push('powerButton');
    this.facts.update({ state: 'stopping' });
    this.onOff('powered-off');
  }

  async reset(): Promise<void> {
    this.asked.push('reset');
    this.facts.update({ resets: this.facts.value.resets + 1 });
  }

  async forceOff(): Promise<void> {
    this.asked.push('forceOff');
    this.facts.update({ state: 'stopping' });
    this.onOff('forced');
  }

  listDevices(): PluggedDevice[] {
    return [
      { slot: 0, function: 0, label: '00:00.0 host bridge', removable: false },
      ...this.devices.map((device, index) => ({ slot: this.#slot(index), function: 0, label: `00:0${this.#slot(index)}.0 ${device.kind}`, kind: device.kind, removable: true })),
    ];
  }

  #slot(index: number): number {
    return this.devices[index]!.slot ?? index + 3;
  }

  #at(slot: number): number {
    return this.devices.findIndex((_, index) => this.#slot(index) === slot);
  }

  async addDevice(device: DeviceConfig): Promise<{ slot: number; told: boolean }> {
    this.asked.push(`addDevice ${device.kind}`);
    if (device.slot !== undefined && this.#at(device.slot) >= 0) {
      throw new VitrineError({ attempted: 'add the device', on: `slot ${device.slot}`, why: 'this slot has a device already.', remedy: '', code: 'slot-taken' });
    }
    this.devices.push(device);
    return { slot: this.#slot(this.devices.length - 1), told: device.kind === 'pci-test' && device.dirtyLog };
  }

  async removeDevice(slot: number, { force, seconds }: { force: boolean; seconds: number }): Promise<void> {
    this.asked.push(`removeDevice ${slot}${force ? ' by force' : ` within ${seconds}`}`);
    const index = this.#at(slot);
    if (index < 0) throw new VitrineError({ attempted: 'remove the device', on: this.facts.value.name, why: `slot ${slot} is empty.`, remedy: '', code: 'no-such-device' });
    this.devices.splice(index, 1);
  }

  async changeDevice(slot: number, change: DeviceChange): Promise<void> {
    const device = this.devices[this.#at(slot)];
    const why = device === undefined ? 'no device that can be changed is there.' : whyNotFor(device, change);
    if (why !== null) throw new VitrineError({ attempted: 'change the device', on: `slot ${slot}`, why, remedy: '', code: 'wrong-device' });
    this.asked.push(`changeDevice ${slot} ${changeWords(change)}`);
  }

  async screenshot(): Promise<{ png: Uint8Array; width: number; height: number }> {
    return { png: Buffer.from('89504e470d0a1a0a', 'hex'), width: 640, height: 480 };
  }

  async serialWrite(bytes: Uint8Array, _signal: AbortSignal): Promise<void> {
    this.serial.push(Uint8Array.from(bytes));
  }

  /** One console device in slot 5 with two ports; what is written comes back. */
  readonly consoles = [new SerialBacklog(), new SerialBacklog()];

  console(slot: number, port: number): SerialBacklog {
    const backlog = slot === 5 ? this.consoles[port] : undefined;
    if (backlog === undefined) throw new VitrineError({ attempted: 'watch a console', on: `port ${port} of slot ${slot}`, why: 'there is no such console.', remedy: '', code: 'no-such-console' });
    return backlog;
  }

  async consoleWrite(slot: number, port: number, bytes: Uint8Array, _signal: AbortSignal): Promise<void> {
    this.console(slot, port).push(Uint8Array.from(bytes));
  }

  async consoleSize(slot: number, port: number, columns: number, rows: number): Promise<void> {
    this.console(slot, port);
    this.asked.push(`console ${slot}.${port} ${columns}x${rows}`);
  }

  async setBalloon(bytes: number): Promise<void> {
    this.asked.push(`balloon ${bytes}`);
  }

  key(code: number, down: boolean): void {
    this.asked.push(`key ${code} ${down ? 'down' : 'up'}`);
  }

  tablet({ x, y, wheel, buttons }: TabletInput): void {
    this.asked.push(`tablet ${x} ${y} ${wheel} ${buttons}`);
  }

  pointer({ dx, dy, wheel, buttons }: PointerInput): void {
    this.asked.push(`pointer ${dx} ${dy} ${wheel} ${buttons}`);
  }

  attachViewer(viewer: ScreenViewer): ScreenAttachment {
    this.viewers.set(viewer.id, viewer);
    return { acknowledge: (seq) => this.acknowledged.push(seq), detach: () => this.viewers.delete(viewer.id) };
  }
}
