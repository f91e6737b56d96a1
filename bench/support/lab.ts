// Benchmarks in the lab: the same program again, inside of it, as root.
import { fileURLToPath } from 'node:url';
import { startLab } from '../../lab/host.ts';
import { nodeWords } from '../../lab/node-words.ts';
import type { LabOptions } from '../../lab/options.ts';

const node24 = fileURLToPath(new URL('../../scripts/node24', import.meta.url));

/** Runs `program` in a lab of its own; its output comes here. Throws when it fails. */
export async function inLab(program: string, args: readonly string[], options: LabOptions = {}): Promise<void> {
  const lab = await startLab(options);
  try {
    const { code } = await lab.run([node24, ...nodeWords(true), program, ...args], {
      user: 'root',
      onStdout: (chunk) => process.stdout.write(chunk),
      onStderr: (chunk) => process.stderr.write(chunk),
    });
    if (code !== 0) throw new Error(`${program} failed in the lab (exit code ${code})`);
  } finally {
    await lab.stop();
  }
}
