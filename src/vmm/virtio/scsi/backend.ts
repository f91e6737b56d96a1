// The SCSI host's work: commands go to its drives (src/vmm/scsi), any number at a time; task management waits for what is under way, because what
// the kernel was asked cannot be taken back. Media change while the guest runs, by a message of the control thread.
import { EPOLLIN } from '../../io/event-loop.ts';
import { openFileIo, type FileIo } from '../../io/file-io.ts';
import { hostTrouble, isHostTrouble } from '../../block/host-trouble.ts';
import { openDisk } from '../../block/open-disk.ts';
import { VitrineError } from '../../../shared/errors.ts';
import type { DeviceChange } from '../../../shared/device-change.ts';
import type { VirtioConfigOf } from '../../../shared/machine-config.ts';
import { CdromDrive, type Medium } from '../../scsi/cdrom.ts';
import { ScsiDisk } from '../../scsi/disk.ts';
import type { LogicalUnit, Result } from '../../scsi/logical-unit.ts';
import { MEDIUM_CHANGED, senseBytes } from '../../scsi/sense.ts';
import type { Backend, BackendHost, DriverSession } from '../backend.ts';
import { madeSerial } from '../blk/backend.ts';
import type { Chain, Virtqueue } from '../queue/virtqueue.ts';
import * as m from './model.ts';
import * as r from './request.ts';

/** Events (§5.6.6.3). */
const EVENT_PARAM_CHANGE = 3;
const EVENTS_MISSED = 0x8000_0000;

export interface ScsiDrive {
  readonly unit: LogicalUnit;
  readonly onError: 'report' | 'pause';
}

export interface ScsiOptions {
  readonly io: FileIo;
  readonly drives: readonly ScsiDrive[];
  /** Opens an image for a CD-ROM drive. Throws VitrineError. */
  readonly openMedium: (path: string) => Medium;
}

/** Opens the drives' files. Throws VitrineError. */
export function makeScsiBackend(config: VirtioConfigOf<'virtio-scsi'>, machine: string, slot: number, host: BackendHost): ScsiBackend {
  const io = openFileIo();
  const drives: ScsiDrive[] = [];
  const log = (text: string): void => host.log(text);
  const openMedium = (path: string): Medium => ({ path, disk: openDisk(path, { io, readonly: true, log }) });
  try {
    config.drives.forEach((drive, index) => {
      const made = madeSerial(machine, `${slot} ${index}`);
      if (drive.kind === 'cdrom') {
        drives.push({ unit: new CdromDrive(drive.file === null ? null : openMedium(drive.file), made, log), onError: 'report' });
        return;
      }
      const disk = openDisk(drive.file, { io, format: drive.format, readonly: drive.readonly, direct: drive.cache === 'none', unsafe: drive.cache === 'unsafe', log });
      drives.push({ unit: new ScsiDisk(disk, drive.file, drive.serial ?? made), onError: drive.onError });
    });
    return new ScsiBackend(host, { io, drives, openMedium });
  } catch (thrown) {
    for (const { unit } of drives) unit.close();
    io.close();
    throw thrown;
  }
}

interface Work {
  readonly queue: Virtqueue;
  readonly chain: Chain;
  readonly request: r.ScsiRequest;
  readonly senseSize: number;
  readonly target: number;
}

interface Waiter {
  readonly over: () => boolean;
  readonly act: () => void;
}

export class ScsiBackend implements Backend {
  readonly #host: BackendHost;
  readonly #o: ScsiOptions;
  #driver: DriverSession | null = null;
  #running = false;
  readonly #flying = new Set<Work>();
  /** Commands that failed by the host's fault and wait for the machine to go on. */
  readonly #kept = new Set<Work>();
  /** Of those that the disks work on, what the driver gave up: its memory is used anew once that is answered. */
  readonly #aborted = new Set<Work>();
  /** Task management that waits for commands to end. */
  #waiting: Waiter[] = [];
  #quiet: (() => void) | null = null;
  #submitting = false;
  #eventsMissed = false;

  constructor(host: BackendHost, options: ScsiOptions) {
    this.#host = host;
    this.#o = options;
    host.loop.watch(options.io.eventFd, EPOLLIN, () => void options.io.reap());
  }

  start(driver: DriverSession): void {
    this.#driver = driver;
    this.#running = true;
    for (const { unit } of this.#o.drives) unit.powerOn();
  }

  kicked(index: number): void {
    if (index === m.EVENT_QUEUE) return; // its room is taken when there is an event
    const queue = this.#driver!.queue(index)!;
    while (this.#running) {
      const chain = queue.take();
      if (chain === null) return;
      if (index === m.CONTROL_QUEUE) this.#control(queue, chain);
      else this.#command(queue, chain);
    }
  }

  #command(queue: Virtqueue, chain: Chain): void {
    const { view } = this.#host.config;
    const senseSize = view.getUint32(m.SENSE_SIZE, true);
    const request = r.readRequest(queue.index, chain, view.getUint32(m.CDB_SIZE, true), senseSize);
    const { address } = request;
    const response = 'response' in address ? address.response : address.target < this.#o.drives.length ? r.RESPONSE_OK : r.RESPONSE_BAD_TARGET;
    if ('response' in address || response !== r.RESPONSE_OK) {
      r.writeResponse(chain, senseSize, { response });
      return this.#answered(queue, chain);
    }
    this.#begin({ queue, chain, request, senseSize, target: address.target });
  }

  #answered(queue: Virtqueue, chain: Chain): void {
    queue.complete(chain, chain.writable.bytes);
    this.#driver!.completed(queue);
  }

  #begin(work: Work): void {
    this.#flying.add(work);
    this.#submitLater();
    this.#o.drives[work.target]!.unit.execute(work.request, (result) => {
      this.#flying.delete(work);
      this.#ended(work, result);
      this.#look();
    });
  }

  /** Once for all that is asked in this turn. */
  #submitLater(): void {
    if (this.#submitting) return;
    this.#submitting = true;
    this.#host.loop.atEndOfTurn(() => {
      this.#submitting = false;
      this.#o.io.submit();
    });
  }

  #ended(work: Work, { status, sense, moved, overrun, errno, lasting }: Result): void {
    if (this.#aborted.delete(work)) return this.#abort(work);
    const { unit, onError } = this.#o.drives[work.target]!;
    if (onError === 'pause' && isHostTrouble(errno) && !lasting) {
      this.#kept.add(work);
      if (this.#kept.size === 1) this.#host.tell({ kind: 'pause', problem: hostTrouble(errno, 'use', unit.path ?? '') });
      return;
    }
    if (isHostTrouble(errno)) this.#host.log(`a command to drive ${work.target} failed by the host: the guest is told of it`);
    const room = Math.max(work.request.in.bytes, work.request.out.bytes);
    r.writeResponse(work.chain, work.senseSize, {
      response: overrun ? r.RESPONSE_OVERRUN : r.RESPONSE_OK, status, residual: Math.max(room - moved, 0), ...(sense === null ? {} : { sense: senseBytes(sense) }),
    });
    this.#answered(work.queue, work.chain);
  }

  #abort({ queue, chain, senseSize }: Work): void {
    r.writeResponse(chain, senseSize, { response: r.RESPONSE_ABORTED });
    this.#answered(queue, chain);
  }

  #look(): void {
    const over = this.#waiting.filter((each) => each.over());
    this.#waiting = this.#waiting.filter((each) => !over.includes(each));
    for (const { act } of over) act();
    if (this.#flying.size === 0 && this.#waiting.length === 0) {
      const quiet = this.#quiet;
      this.#quiet = null;
      quiet?.();
    }
  }

  // Task management

  #control(queue: Virtqueue, chain: Chain): void {
    const request = r.readControl(chain);
    const answer = (response: number): void => {
      queue.complete(chain, r.writeControl(chain, request, response));
      this.#driver!.completed(queue);
    };
    if (request.kind === 'notification') return answer(r.RESPONSE_OK);
    if (request.kind === 'unknown') return answer(r.FUNCTION_REJECTED);
    const { address, subtype, id } = request;
    if ('response' in address) return answer(address.response);
    const drive = this.#o.drives[address.target];
    if (drive === undefined) return answer(r.RESPONSE_BAD_TARGET);
    const { target } = address;
    const mine = (work: Work): boolean => work.target === target && (subtype !== r.TMF_ABORT_TASK && subtype !== r.TMF_QUERY_TASK ? true : work.request.id === id);
    const there = [...this.#flying, ...this.#kept].filter(mine);
    switch (subtype) {
      case r.TMF_QUERY_TASK: case r.TMF_QUERY_TASK_SET:
        return answer(there.length > 0 ? r.FUNCTION_SUCCEEDED : r.FUNCTION_COMPLETE);
      case r.TMF_ABORT_TASK: case r.TMF_ABORT_TASK_SET: case r.TMF_CLEAR_TASK_SET: case r.TMF_I_T_NEXUS_RESET: case r.TMF_LOGICAL_UNIT_RESET:
        break;
      default: return answer(r.FUNCTION_REJECTED);
    }
    for (const work of there) {
      if (this.#kept.delete(work)) this.#abort(work);
      else this.#aborted.add(work);
    }
    const resets = subtype === r.TMF_I_T_NEXUS_RESET || subtype === r.TMF_LOGICAL_UNIT_RESET;
    const left = there.filter((work) => this.#flying.has(work));
    const waiter: Waiter = {
      over: () => !left.some((work) => this.#flying.has(work)),
      act: () => {
        if (resets) drive.unit.reset();
        answer(r.FUNCTION_COMPLETE);
      },
    };
    if (waiter.over()) waiter.act();
    else this.#waiting.push(waiter);
  }

  // Events

  /** Tells the driver that something of a unit changed. @param asc additional sense code @param ascq its qualifier */
  #event(target: number, asc: number, ascq: number): void {
    const driver = this.#driver;
    if (driver === null || !this.#running || !driver.has(m.F_CHANGE)) return;
    const queue = driver.queue(m.EVENT_QUEUE);
    const chain = queue?.take() ?? null;
    if (queue === undefined || chain === null) {
      this.#eventsMissed = true;
      return;
    }
    const bytes = new Uint8Array(m.EVENT_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, (EVENT_PARAM_CHANGE | (this.#eventsMissed ? EVENTS_MISSED : 0)) >>> 0, true);
    bytes.set(r.lunOf(target), 4);
    view.setUint32(12, asc | (ascq << 8), true);
    this.#eventsMissed = false;
    queue.complete(chain, chain.writable.write(0, bytes));
    driver.completed(queue);
  }

  // The control thread's messages

  mail(message: unknown): unknown {
    const change = message as DeviceChange;
    if (change.kind !== 'medium') throw refuse('change the drive', `${change.kind}`, 'nothing of the kind is changed of a SCSI controller.', '');
    const unit = this.#o.drives[change.drive]?.unit;
    if (!(unit instanceof CdromDrive)) throw refuse('change the medium', `drive ${change.drive}`, 'it is no CD-ROM drive.', '');
    const attempted = change.file === null ? 'eject the medium' : 'change the medium';
    if (unit.locked && unit.path !== null) {
      unit.requestEject();
      throw refuse(attempted, unit.path, 'the guest has it in use and keeps the drive shut.', 'Unmount or eject it in the guest, then try again.');
    }
    const medium = change.file === null ? null : this.#o.openMedium(change.file);
    // What is under way reads the old medium to its end; the loop stands still while this runs, so waiting is by the ring.
    while ([...this.#flying].some((work) => work.target === change.drive)) this.#o.io.wait();
    unit.change(medium);
    if (medium !== null) this.#event(change.drive, MEDIUM_CHANGED.asc, MEDIUM_CHANGED.ascq);
    return undefined;
  }

  // The life of the device

  quiesce(done: () => void): void {
    this.#running = false;
    this.#quiet = done;
    this.#look();
  }

  resume(): void {
    this.#running = true;
    const again = [...this.#kept];
    this.#kept.clear();
    for (const work of again) this.#begin(work);
  }

  stop(): void {
    this.#driver = null;
    this.#kept.clear();
    this.#aborted.clear();
    this.#eventsMissed = false;
    const { view } = this.#host.config; // as after power-on, for the next driver
    view.setUint32(m.SENSE_SIZE, m.DEFAULT_SENSE_SIZE, true);
    view.setUint32(m.CDB_SIZE, m.DEFAULT_CDB_SIZE, true);
  }

  dispose(): void {
    const { io, drives } = this.#o;
    this.#host.loop.unwatch(io.eventFd);
    for (const { unit } of drives) {
      const { path } = unit;
      const errno = unit.close();
      if (errno !== 0) this.#host.log(`${path ?? 'a drive'} could not be closed in order: errno ${errno}`);
    }
    io.close();
  }
}

function refuse(attempted: string, on: string, why: string, remedy: string): VitrineError {
  return new VitrineError({ attempted, on, why, remedy, code: 'medium' });
}
