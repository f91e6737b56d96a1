// A front in the lab, as a test has it: the methods that the wizard calls, on an emulated computer that is taken for a real one.
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Problem } from '../../../src/shared/errors.ts';
import { VitrineError } from '../../../src/shared/errors.ts';
import type { FrontProtocol } from '../../../src/shared/protocol/front.ts';
import type { MethodName, ObjectTopicName, Params, Result, Snapshot } from '../../../src/shared/protocol/wire.ts';
import type { LabCommand } from '../../client.ts';
import type { LabHost } from '../../host.ts';
import type { FrontCall } from './front-main.ts';
import { nodeWords } from '../../node-words.ts';
import { buildForLab, bundle, top } from './lab-machine.ts';

interface Answer {
  id: number;
  progress?: string;
  result?: unknown;
  problem?: Problem;
}

/** Builds the front's program. The app itself, whose processes it starts, is built by buildApp (scripts/setup/build.mjs). */
export const buildFront = (): Promise<void> => buildForLab({ front: 'lab/tests/support/front-main.ts' });

export class LabFront {
  readonly #command: LabCommand;
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  #next = 1;
  #errors = '';
  #pid = 0;

  /**
   * Opens a front of the ordinary user; rejects when it does not come up.
   * @param memlock KiB that the user may lock
   */
  static async open(lab: LabHost, library: string, memlock: number): Promise<LabFront> {
    const program = `ulimit -l ${memlock}; exec env -u VITRINE_IN_LAB VITRINE_BACKEND=kvm ${process.execPath} --disable-warning=ExperimentalWarning ${path.join(bundle, 'front.js')} ${library}`;
    const front = new LabFront(await lab.start(['sh', '-c', program], { cwd: '/' }));
    front.#pid = ((await front.#answer(0)) as { pid: number }).pid;
    return front;
  }

  private constructor(command: LabCommand) {
    this.#command = command;
    command.stderr.on('data', (chunk: Buffer) => (this.#errors += chunk.toString()));
    const lines = createInterface({ input: command.stdout });
    lines.on('line', (line) => {
      const { id, progress, result, problem } = JSON.parse(line) as Answer;
      if (progress !== undefined) return;
      const waiting = this.#waiting.get(id)!;
      this.#waiting.delete(id);
      if (problem === undefined) waiting.resolve(result);
      else waiting.reject(new VitrineError(problem));
    });
    const gone = (): void => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the front has ended: ${this.#errors}`));
    };
    command.exited.then(gone, gone);
  }

  #answer(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #ask(asked: Omit<FrontCall, 'id'>): Promise<unknown> {
    const id = this.#next++;
    this.#command.stdin.write(`${JSON.stringify({ id, ...asked })}\n`);
    return this.#answer(id);
  }

  /** Has somebody close, without an answer, whatever polkit asks of this front's user, until `stop`, which gives the names of what was asked for. */
  async dismissQuestions(lab: LabHost): Promise<{ stop: () => Promise<string[]> }> {
    const command = await lab.start([process.execPath, ...nodeWords(true), path.join(top, 'lab/tests/support/polkit-agent.ts'), String(this.#pid)], { cwd: '/' });
    let errors = '';
    command.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    const dismissed: string[] = [];
    const lines = createInterface({ input: command.stdout });
    const read = new Promise((resolve) => lines.once('close', resolve));
    await new Promise<void>((resolve, reject) => {
      lines.on('line', (line) => void (line === 'registered' ? resolve() : dismissed.push(line.replace('dismissed ', ''))));
      const gone = (): void => reject(new Error(`the agent has ended: ${errors}`));
      command.exited.then(gone, gone);
    });
    const stop = async (): Promise<string[]> => {
      command.stdin.end();
      await Promise.all([command.exited, read]);
      return dismissed;
    };
    return { stop };
  }

  /** Calls a method. Rejects with its problem, or when the front ends before the answer. */
  async call<M extends MethodName<FrontProtocol>>(call: M, params: Params<FrontProtocol, M>): Promise<Result<FrontProtocol, M>> {
    return (await this.#ask({ call, params })) as Result<FrontProtocol, M>;
  }

  /** The topic's value as it is now. */
  async value<T extends ObjectTopicName<FrontProtocol>>(topic: T): Promise<Snapshot<FrontProtocol, T>> {
    return (await this.#ask({ topic })) as Snapshot<FrontProtocol, T>;
  }
}
