// Asks a process of its own (main.ts) to do something with disk images.
import { execFile } from 'node:child_process';
import { VitrineError, type Problem } from '../../shared/errors.ts';
import { entryPath, nodeRuntime } from '../install.ts';
import { cleanEnvironment } from '../launcher/environment.ts';
import type { DiskAnswer, DiskRequest } from './work.ts';

/** The list of a machine's disks is a few thousand bytes. */
const MOST_OUTPUT = 2 ** 22;

/** Rejects with a VitrineError; an abort ends the process, half-made files go with the next attempt's refusal. */
export function onDisks<R extends DiskRequest>(request: R, env: NodeJS.ProcessEnv, signal?: AbortSignal): Promise<DiskAnswer<R>> {
  const node = nodeRuntime();
  return new Promise((resolve, reject) => {
    const words = ['--disable-warning=ExperimentalWarning', entryPath('disks'), JSON.stringify(request)];
    execFile(node.path, words, { env: { ...cleanEnvironment(env), ...node.env }, maxBuffer: MOST_OUTPUT, signal, killSignal: 'SIGTERM' }, (error, stdout, stderr) => {
      let answer: (DiskAnswer<R> & { problem?: undefined }) | { problem: Problem };
      try {
        answer = JSON.parse(stdout) as typeof answer;
      } catch {
        const why = `${(stderr.trim().split('\n').at(-1) ?? '') || (error?.message ?? 'it said nothing')}.`;
        reject(new VitrineError({ attempted: 'work on the disk image', on: '', why, remedy: '', code: 'disk-process' }));
        return;
      }
      if (answer.problem === undefined) resolve(answer);
      else reject(new VitrineError(answer.problem));
    });
  });
}
