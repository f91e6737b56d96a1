// Runs the helper's test build on a host made of files and takes apart what it says.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import type { Starter } from '../start.ts';
import type { FakeHost } from './fake-host.ts';

export interface Answer {
  /** "ok", or the error's code. */
  result: string;
  /** All of its lines. */
  text: string;
}

/** Splits what the helper said into answers; the greeting, with what it recovered, is the first. */
export function answersIn(stdout: string): Answer[] {
  return stdout.split('\n\n').filter((block) => block !== '' && block !== '\n').map((text) => {
    const results = text.split('\n').filter((line) => /^(ok|error|hello)\b/.test(line));
    assert.equal(results.length, 1, `exactly one answer: ${text}`);
    return { result: results[0]!.startsWith('error') ? results[0]!.split(' ')[1]! : results[0]!.split(' ')[0]!, text };
  });
}

/** How the test build is started on the folder `root`, as pkexec would for the user `uid` (default: whoever runs the test). */
export function starterOn(helper: string, root: string, uid?: number): Starter {
  return { asks: true, start: (way, words = []) => spawn(helper, [way, ...words], { env: { VITRINE_TEST_ROOT: root, ...(uid === undefined ? {} : { PKEXEC_UID: String(uid) }) }, stdio: 'pipe' }) };
}

/** Runs it to its end. `result` is that of the last answer; "killed" when it was. */
export function runHelper(helper: string, host: FakeHost, words: string[], input: string[] = [], env: Record<string, string> = {}) {
  const { status, stdout, stderr, signal } = spawnSync(helper, words, { input: input.map((line) => `${line}\n`).join(''), encoding: 'utf8', env: { VITRINE_TEST_ROOT: host.root, ...env }, timeout: 60_000 });
  assert.doesNotMatch(stderr, /runtime error|Sanitizer/, stderr);
  const answers = signal === null ? answersIn(stdout) : [];
  return { code: status ?? signal, answers, result: signal === null ? answers.at(-1)!.result : 'killed', text: answers.at(-1)?.text ?? '', stdout };
}

export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `it never came to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A session that stays open: `lease`, or `granted MACHINE`. */
export class Session {
  readonly child: ChildProcessWithoutNullStreams;
  said = '';

  constructor(helper: string, host: FakeHost, words: string[] = ['lease'], env: Record<string, string> = {}) {
    this.child = spawn(helper, words, { env: { VITRINE_TEST_ROOT: host.root, ...env } });
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => (this.said += text));
    this.child.stdin.on('error', () => {});
  }

  async ask(line: string): Promise<Answer> {
    await until('the greeting', () => this.said.includes('\n\n'));
    const from = this.said.length;
    this.child.stdin.write(`${line}\n`);
    await until(`an answer to ${line}`, () => this.said.slice(from).includes('\n\n'));
    return answersIn(this.said.slice(from))[0]!;
  }

  /** Closes its input. */
  end(): Promise<number | null> {
    this.child.stdin.end();
    return this.ended();
  }

  async ended(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await new Promise((resolve) => this.child.once('close', resolve));
    return this.child.exitCode;
  }
}
