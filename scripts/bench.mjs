// `npm run bench [-- AREA | NAME]…`: set-up and build, then the benchmarks, each a program bench/NAME.ts that prints its table. Helpers lie
// in folders below. An area's name (scripts/test/areas.mjs) runs all of that area.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildApp } from './setup/build.mjs';
import { main, prepareGuestMachines, prepareLabHost, prepareSources } from './setup/index.mjs';
import { SetupError, root, systemEnvironment } from './setup/run.mjs';
import { areaOf, areas } from './test/areas.mjs';

await main(async () => {
  const wanted = process.argv.slice(2);
  const folder = join(root, 'bench');
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts')).map((name) => name.slice(0, -'.ts'.length)) : [];
  const known = [...areas.map(({ name }) => name), ...names];
  const unknown = wanted.filter((word) => !known.includes(word));
  if (unknown.length > 0) throw new SetupError(`There is no benchmark or area ${unknown.join(', ')}. There are: ${known.join(', ')}.`);
  const chosen = names.filter((name) => wanted.length === 0 || wanted.includes(name) || wanted.includes(areaOf(`bench/${name}.ts`).name));
  if (chosen.length === 0) throw new SetupError('No benchmark was chosen.');

  await prepareSources(['start']);
  await prepareLabHost();
  await prepareGuestMachines();
  await buildApp();
  let failed = 0;
  for (const name of chosen) {
    console.log(`\n## ${name}\n`);
    const { status } = spawnSync(join(root, 'scripts/node24'), [join(folder, `${name}.ts`)], { cwd: root, env: systemEnvironment(), stdio: 'inherit' });
    if (status !== 0) {
      failed++;
      console.error(`bench/${name}.ts failed (exit code ${status}).`);
    }
  }
  return failed > 0 ? 1 : 0;
});
