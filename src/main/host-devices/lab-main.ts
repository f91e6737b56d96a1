// The reader of devices (main.ts) in the lab, as a process here: where machines run in the emulated host, its devices are the ones that they
// can be given. The lab is started if it does not run, and held while this process is there; input and output are passed
// through.
//   vitrine's node lab-main LIBRARY     the folder of the machines, which the lab shares
import { nodeWords } from '../../../lab/node-words.ts';
import { ensureLab } from '../../../lab/shared.ts';
import { sentence, toProblem } from '../../shared/errors.ts';
import { entryPath, fromSource, nodeRuntime } from '../install.ts';
import { recoverLab } from '../lab-lease.ts';

async function main(library: string): Promise<number> {
  const node = nodeRuntime();
  // Whoever watches may go while the lab is still starting.
  process.stdin.once('end', () => process.exit(0));
  process.stdout.on('error', () => process.exit(0));
  const lab = await ensureLab({ library, node });
  await recoverLab(lab).catch(() => {
    // No helper was built: then nothing was changed either.
  });
  const command = await lab.start([node.path, ...nodeWords(fromSource), entryPath('devices')], { cwd: library, env: node.env, fresh: true });
  process.stdin.pipe(command.stdin);
  command.stdout.pipe(process.stdout, { end: false });
  command.stderr.pipe(process.stderr, { end: false });
  return (await command.exited).code;
}

main(process.argv[2]).then((code) => process.exit(code), (thrown: unknown) => {
  process.stderr.write(`${sentence(toProblem(thrown, 'read the lab\'s devices'))}\n`);
  process.exit(1);
});
