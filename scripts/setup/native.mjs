// The C that TypeScript cannot be: the native/*.c whose first lines say `// cc: shared NAME.so [flags]` become build/native/NAME.so, those
// that name the same one together.
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError, buildFolder, findCommand, hashOf, isFresh, root, run, step, writeStamp } from './run.mjs';

const flags = ['-O2', '-g', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-fstack-protector-strong'];

/** What to build: { sources, target, extra }. */
function targets() {
  const folder = join(root, 'native');
  if (!existsSync(folder)) return [];
  const byTarget = new Map();
  for (const name of readdirSync(folder).filter((name) => name.endsWith('.c')).sort()) {
    const source = join(folder, name);
    const said = /^\/\/ cc: shared (\S+\.so)(.*)$/m.exec(readFileSync(source, 'utf8').split('\n').slice(0, 5).join('\n'));
    if (said === null) continue;
    const target = join(buildFolder, 'native', said[1]);
    const one = byTarget.get(target) ?? { sources: [], target, extra: [] };
    one.sources.push(source);
    one.extra.push(...said[2].split(' ').filter(Boolean));
    byTarget.set(target, one);
  }
  return [...byTarget.values()];
}

export async function buildNative() {
  const headers = existsSync(join(root, 'native')) ? readdirSync(join(root, 'native')).filter((name) => name.endsWith('.h')).map((name) => join(root, 'native', name)) : [];
  for (const { sources, target, extra } of targets()) {
    const hash = hashOf([...sources, ...headers], ...flags, ...extra);
    if (isFresh(`${target}.stamp`, hash, [target])) continue;
    if (!findCommand('cc')) throw new SetupError('A C compiler is missing. On Debian and Ubuntu: apt-get install gcc libc6-dev');
    await step(`Compiling ${sources.map((source) => source.slice(root.length + 1)).join(' and ')}`, async () => {
      mkdirSync(join(buildFolder, 'native'), { recursive: true });
      await run('Compiling', 'cc', [...flags, '-o', `${target}.new`, ...sources, ...extra]);
      renameSync(`${target}.new`, target);
    });
    writeStamp(`${target}.stamp`, hash);
  }
}
