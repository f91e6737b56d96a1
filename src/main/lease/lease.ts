// A lease: what a machine needs changed on the host, for as long as it needs it. The privileged helper undoes all of it when its standard
// input ends. So whoever has the writing end open holds the lease: `descriptor` can be handed to the machine's own process, which then
// holds it too, and when the last of them is gone, however it went, the host gets everything back.
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { VitrineError } from '../../shared/errors.ts';
import type { LeaseAnswer, LeaseModule, LeaseRequest, TakingRequest } from './protocol.ts';
import { AnswerReader, MOST_NAMED, refusal, requestLine } from './protocol.ts';
import type { Starter, Way } from './start.ts';
import { notStarted, sudoCommand, systemStarter } from './start.ts';

export interface LeaseOptions {
  /** How the helper is started; default as this system does. */
  starter?: Starter;
  /** What the lease is for, as a clause of an error: "give devices to the machine". */
  attempted?: string;
  onTerminal?: boolean;
  /** Requests that will follow, for the command that is said where nobody can be asked. */
  lines?: string[];
  /** The id of a machine whose grant covers what is asked for: then nobody is asked. */
  granted?: string;
  /** What the helper did besides, such as undoing what another had left. */
  onNote?: (note: string) => void;
  /** Gives up: whoever is being asked for permission is asked no more, and a lease is let go of. What `apply` and `release` have begun is not cut off. */
  signal?: AbortSignal;
}

/** What a device's binding would change, in order. */
export interface LeaseStep {
  what: 'module' | 'override' | 'unbind' | 'bind';
  words: string[];
}

export interface LeasedDevice {
  address: string;
  uid: number;
  /** The helper that holds it; 0 for none. */
  pid: number;
  /** The host's driver that it goes back to; '' for none. */
  driver: string;
}

export class Lease {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #reader = new AnswerReader();
  readonly #waiting: { resolve: (answer: LeaseAnswer) => void; reject: (error: Error) => void }[] = [];
  readonly #attempted: string;
  readonly #onNote: (note: string) => void;
  #stderr = '';
  #lost: Error | null = null;
  #greeted = false;
  readonly #greeting: Promise<LeaseAnswer>;
  /** Resolves with the exit code when the helper has ended: with 0, everything was undone. */
  readonly ended: Promise<number | null>;

  /** Starts the helper and waits until it answers: the user may be asked for permission meanwhile. Throws codes of start.ts. */
  static async open(options: LeaseOptions = {}): Promise<Lease> {
    const attempted = options.attempted ?? 'give devices to the machine';
    const starter = options.starter ?? systemStarter(attempted, { onTerminal: options.onTerminal, lines: options.lines });
    const words: [Way, string[]] = options.granted === undefined ? ['lease', []] : ['granted', [options.granted]];
    const lease = new Lease(starter, words, attempted, options.lines ?? [], options.onNote ?? (() => {}));
    const giveUp = () => lease.#giveUp();
    options.signal?.addEventListener('abort', giveUp, { once: true });
    if (options.signal?.aborted === true) giveUp();
    void lease.ended.then(() => options.signal?.removeEventListener('abort', giveUp));
    await lease.#greeting;
    return lease;
  }

  /**
   * A lease in which all of the requests are done, in order, or none. Throws as `open` and the requests do, with the host as it was.
   * @param before told of each request, with its number from 0; what it throws undoes all of it
   */
  static async take(requests: readonly TakingRequest[], options: LeaseOptions = {}, before: (request: TakingRequest, index: number) => void = () => {}): Promise<Lease> {
    const lease = await Lease.open({ lines: requests.map(requestLine), ...options });
    try {
      for (const [index, request] of requests.entries()) {
        before(request, index);
        await (request.verb === 'bind' ? lease.bind(request.address) : lease.permit(request.group));
      }
      return lease;
    } catch (thrown) {
      lease.release();
      await lease.ended;
      throw thrown;
    }
  }

  private constructor(starter: Starter, [way, words]: [Way, string[]], attempted: string, lines: string[], onNote: (note: string) => void) {
    this.#attempted = attempted;
    this.#onNote = onNote;
    this.#child = starter.start(way, words);
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#stderr = (this.#stderr + text).slice(-4096)));
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      for (const answer of this.#reader.push(text)) this.#take(answer);
    });
    this.#child.stdin.on('error', () => {
      // The helper is gone: `ended` says so.
    });
    this.#greeting = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    this.ended = new Promise((resolve) => {
      const gone = (code: number | null): void => {
        const last = this.#reader.end();
        if (last.code === '' || last.code === 'ok') this.#lose(this.#greeted ? new VitrineError({ attempted, on: '', why: 'the privileged helper has ended.', remedy: '', code: 'lease-ended' }) : notStarted(attempted, starter, code, this.#stderr, sudoCommand('lease', lines)));
        else this.#lose(refusal(last, attempted, ''));
        resolve(code);
      };
      this.#child.once('error', (error) => {
        this.#stderr += error.message;
        gone(null);
      });
      this.#child.once('close', gone);
    });
  }

  #take(answer: LeaseAnswer): void {
    this.#greeted = true;
    for (const note of answer.notes) this.#onNote(note);
    this.#waiting.shift()?.resolve(answer);
  }

  #lose(error: Error): void {
    this.#lost ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#lost);
  }

  async #ask(request: LeaseRequest, on: string): Promise<LeaseAnswer> {
    if (this.#lost !== null) throw this.#lost;
    const answer = await new Promise<LeaseAnswer>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin.write(`${requestLine(request)}\n`);
    });
    if (answer.code !== 'ok') throw refusal(answer, this.#attempted, on);
    return answer;
  }

  #giveUp(): void {
    this.release();
    // pkexec is still this user's while it asks; the helper is root's, undoes everything when its input ends, and cannot be signalled.
    if (!this.#greeted) this.#child.kill('SIGKILL');
  }

  /** What `bind` would change. Throws what `bind` would throw before it changes anything. */
  async plan(address: string): Promise<LeaseStep[]> {
    const { data } = await this.#ask({ verb: 'plan', address }, address);
    return data.filter(({ kind }) => kind === 'step').map(({ words: [what, ...words] }) => ({ what: what as LeaseStep['what'], words }));
  }

  /** Takes a device from its driver and gives it to vfio-pci. Throws codes "lease-…" (native/lease says which). */
  async bind(address: string): Promise<void> {
    await this.#ask({ verb: 'bind', address }, address);
  }

  /** Gives a device of this lease back before the others. */
  async unbind(address: string): Promise<void> {
    await this.#ask({ verb: 'unbind', address }, address);
  }

  /** Gives /dev/vfio/GROUP to this user. All of the group must be on vfio-pci. */
  async permit(group: number): Promise<void> {
    await this.#ask({ verb: 'permit', group }, `group ${group}`);
  }

  /** Lets a process of this user pin `bytes` bytes. */
  async memlock(pid: number, bytes: number): Promise<void> {
    await this.#ask({ verb: 'memlock', pid, bytes }, `process ${pid}`);
  }

  async module(name: LeaseModule): Promise<void> {
    await this.#ask({ verb: 'module', name }, name);
  }

  /** What is changed stays after this lease, until `release` or the computer's restart. */
  async keep(): Promise<void> {
    await this.#ask({ verb: 'keep' }, '');
  }

  /** What leases hold, or what is kept, of all users. */
  async list(which: 'held' | 'kept'): Promise<LeasedDevice[]> {
    const { data } = await this.#ask({ verb: which }, '');
    return data.map(({ words: [address, uid, pid, driver] }) => ({ address: address!, uid: Number(uid), pid: Number(pid), driver: driver === '-' ? '' : driver! }));
  }

  /** The writing end of the helper's input, for a child process's `stdio`: a child that has it holds the lease as well. */
  get descriptor(): number {
    // Node has no public way to a pipe's descriptor.
    const { _handle } = this.#child.stdin as unknown as { _handle: { fd: number } | null };
    if (_handle === null) throw this.#lost ?? new Error('the lease has ended');
    return _handle.fd;
  }

  /**
   * Lets go: what nobody else holds is undone. `ended` tells when; while a group is still open somewhere, that is later. Requests that are
   * not answered yet may be lost.
   */
  release(): void {
    // Closed, not ended: to end it is to shut the socket behind it down, for every process that has it.
    this.#child.stdin.destroy();
  }
}

export interface Done {
  /** Devices given back, with the driver that they went to ('' for none). */
  released: { address: string; driver: string }[];
  notes: string[];
  /** Every line of data. */
  data: LeaseAnswer['data'];
}

/** Runs one of the helper's ways that end by themselves. */
export async function runToEnd(way: Way, words: string[], lines: string[], attempted: string, on: string, options: LeaseOptions & { onProgress?: (line: string) => void }): Promise<Done> {
  const starter = options.starter ?? systemStarter(attempted, { onTerminal: options.onTerminal, lines, way, words });
  const child = starter.start(way, words);
  let stdout = '';
  let stderr = '';
  let seen = 0;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    for (let end = stdout.indexOf('\n', seen); end >= 0; end = stdout.indexOf('\n', seen)) {
      const line = stdout.slice(seen, end);
      seen = end + 1;
      if (line.startsWith('progress ')) options.onProgress?.(line.slice('progress '.length));
    }
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => {
    // It ended without reading: its exit code says why.
  });
  const giveUp = () => void (stdout === '' && child.kill('SIGKILL'));
  options.signal?.addEventListener('abort', giveUp, { once: true });
  child.stdin.end(lines.map((line) => `${line}\n`).join(''));
  const code = await new Promise<number | null>((resolve) => {
    child.once('error', (error) => {
      stderr += error.message;
      resolve(null);
    });
    child.once('close', resolve);
  });
  options.signal?.removeEventListener('abort', giveUp);
  const reader = new AnswerReader();
  const greeting = reader.push(stdout)[0];
  const answer = reader.end();
  if (greeting === undefined && answer.code === '') throw notStarted(attempted, starter, code, stderr, sudoCommand(way, lines, words));
  if (answer.code !== 'ok') throw refusal(answer, attempted, on);
  const released = answer.data.filter(({ kind }) => kind === 'released').map(({ words: [address, driver] }) => ({ address: address!, driver: driver === '-' ? '' : driver! }));
  return { released, notes: [...(greeting?.notes ?? []), ...answer.notes], data: answer.data };
}

/** Does all of a plan or nothing, and keeps it until it is released. */
export async function applyPlan(requests: LeaseRequest[], on: string, options: LeaseOptions = {}): Promise<string[]> {
  const { notes } = await runToEnd('apply', [], requests.map(requestLine), options.attempted ?? 'give the device to vfio-pci', on, options);
  return notes;
}

/**
 * Gives back devices that are kept, or with none named all of this user's. One question for permission. If one of them cannot go back since it is
 * not kept, or is another's, none does; those that a machine still uses stay, and the others go back.
 */
export async function releaseKept(addresses: readonly string[], options: LeaseOptions = {}): Promise<Done> {
  const attempted = options.attempted ?? (addresses.length > 1 ? 'give the devices back' : 'give the device back');
  const done: Done = { released: [], notes: [], data: [] };
  for (let first = 0; first === 0 || first < addresses.length; first += MOST_NAMED) {
    const some = addresses.slice(first, first + MOST_NAMED);
    const { released, notes, data } = await runToEnd('release', some, [], attempted, some.join(', '), options);
    done.released.push(...released);
    done.notes.push(...notes);
    done.data.push(...data);
  }
  return done;
}
