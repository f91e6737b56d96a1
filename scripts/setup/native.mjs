// The C that TypeScript cannot be: the native/*.c whose first lines say `// cc: shared NAME.so [flags]` become build/native/NAME.so, those
// that name the same one together; the native/*/*.c that say `// cc: program NAME` become build/native/NAME in the same way.
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SetupError, buildFolder, findCommand, hashOf, isFresh, root, run, step, writeStamp } from './run.mjs';

const common = ['-O2', '-g', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-fstack-protector-strong'];
const flagsOf = {
  shared: [...common, '-fPIC', '-shared'],
  // A program runs as root: what the compiler and the linker can do against its mistakes is on.
  program: [...common, '-D_GNU_SOURCE', '-D_FORTIFY_SOURCE=2', '-fstack-clash-protection', '-fPIE', '-pie', '-Wl,-z,relro,-z,now,-z,noexecstack'],
};

const native = join(root, 'native');

function filesIn(folder, ending) {
  return existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(ending)).sort().map((name) => join(folder, name)) : [];
}

/** `native` and the folders in it. */
function folders() {
  return existsSync(native) ? [native, ...readdirSync(native, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => join(native, name))] : [];
}

/** What to build: { sources, target, flags, extra }. */
function targets() {
  const byTarget = new Map();
  for (const source of folders().flatMap((folder) => filesIn(folder, '.c'))) {
    const said = /^\/\/ cc: (?:(shared) (\S+\.so)|(program) (\S+))(.*)$/m.exec(readFileSync(source, 'utf8').split('\n').slice(0, 5).join('\n'));
    if (said === null) continue;
    const target = join(buildFolder, 'native', said[2] ?? said[4]);
    const one = byTarget.get(target) ?? { sources: [], target, flags: flagsOf[said[1] ?? said[3]], extra: [] };
    one.sources.push(source);
    one.extra.push(...said[5].split(' ').filter(Boolean));
    byTarget.set(target, one);
  }
  return [...byTarget.values()];
}

export async function buildNative() {
  const headers = folders().flatMap((folder) => ['.h', '.policy'].flatMap((ending) => filesIn(folder, ending)));
  for (const { sources, target, flags, extra } of targets()) {
    const hash = hashOf([...sources, ...headers], ...flags, ...extra);
    if (isFresh(`${target}.stamp`, hash, [target])) continue;
    if (!findCommand('cc')) throw new SetupError('A C compiler is missing. On Debian and Ubuntu: apt-get install gcc libc6-dev');
    await step(`Compiling ${(sources.length > 4 ? [dirname(sources[0])] : sources).map((source) => source.slice(root.length + 1)).join(' and ')}`, async () => {
      mkdirSync(join(buildFolder, 'native'), { recursive: true });
      await run('Compiling', 'cc', [...flags, '-o', `${target}.new`, ...sources, ...extra], { cwd: root });
      renameSync(`${target}.new`, target);
    });
    writeStamp(`${target}.stamp`, hash);
  }
}
