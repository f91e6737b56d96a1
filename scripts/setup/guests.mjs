// Freestanding guests, from source: guests/NAME/ with *.c, *.S and link.ld becomes build/guests/NAME.elf. No library and no header of the
// host is used, so an ordinary gcc compiles the 32-bit ones too. guests/NAME/build.json may say more:
//   { "bits": 32, "cflags": […], "ldflags": […], "link": "other.ld" }            for the one program NAME
//   { "programs": { "A": { "sources": ["a.S", "a.c"], "bits": 64 }, … } }         for several; each may hold the keys above
// guests/common/ is on the include path. -mgeneral-regs-only: some hosts interpret ring 0 and know no SSE there.
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError, buildFolder, filesBelow, findCommand, hashOf, isFresh, root, run, step, writeStamp } from './run.mjs';

const guests = join(root, 'guests');
const common = join(guests, 'common');
const cflags = [
  '-O2', '-g', '-std=gnu11', '-Wall', '-Wextra', '-ffreestanding', '-fno-stack-protector', '-fno-asynchronous-unwind-tables', '-fcf-protection=none',
  '-mgeneral-regs-only', '-mno-red-zone', '-fno-pic', '-fno-pie', '-fno-strict-aliasing',
];
const ldflags = ['-nostdlib', '-static', '-no-pie', '-Wl,--build-id=none', '-Wl,-z,noexecstack', '-Wl,-z,max-page-size=4096'];

function programs(name) {
  const folder = join(guests, name);
  const file = join(folder, 'build.json');
  const settings = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  if (settings.programs) return Object.entries(settings.programs).map(([program, own]) => ({ ...settings, ...own, name: program, folder }));
  const sources = readdirSync(folder).filter((entry) => /\.[cS]$/.test(entry)).sort();
  if (sources.length === 0 || !existsSync(join(folder, settings.link ?? 'link.ld'))) return [];
  return [{ sources, ...settings, name, folder }];
}

export async function buildGuests() {
  if (!existsSync(guests)) return;
  const shared = filesBelow(common);
  for (const entry of readdirSync(guests, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name === 'common') continue;
    for (const program of programs(entry.name)) await build(program, shared);
  }
}

async function build({ name, folder, sources, bits = 64, link = 'link.ld', cflags: moreC = [], ldflags: moreLd = [] }, shared) {
  const target = join(buildFolder, 'guests', `${name}.elf`);
  const words = [
    `-m${bits}`, ...cflags, '-I', folder, '-I', common, ...moreC, ...sources.map((source) => join(folder, source)),
    ...ldflags, `-Wl,-T,${join(folder, link)}`, ...moreLd,
  ];
  const hash = hashOf([...filesBelow(folder), ...shared], ...words.map((word) => word.replaceAll(root, '')));
  if (isFresh(`${target}.stamp`, hash, [target])) return;
  if (!findCommand('cc')) throw new SetupError('A C compiler is missing. On Debian and Ubuntu: apt-get install gcc libc6-dev');
  await step(`Compiling guests/${name}`, async () => {
    mkdirSync(join(buildFolder, 'guests'), { recursive: true });
    await run('Compiling', 'cc', [...words, '-o', `${target}.new`]);
    renameSync(`${target}.new`, target);
  });
  writeStamp(`${target}.stamp`, hash);
}
