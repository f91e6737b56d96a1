// Runs `vitrine WORDS…` and waits for its end.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root } from './folders.ts';

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export function runCli(words: string[], env: Record<string, string>): Promise<CliResult> {
  return new Promise((done, failed) => {
    const child = spawn(join(root, 'scripts/vitrine'), words, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text; });
    child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text; });
    child.on('error', failed);
    // 'exit', not 'close': a machine that the command started may still hold the pipes.
    child.on('exit', (code) => setImmediate(() => done({ code, stdout, stderr })));
  });
}
