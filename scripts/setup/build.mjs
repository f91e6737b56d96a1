// The app's bundles in out/, built when a source, the configuration or the packages changed.
import { join } from 'node:path';
import { filesBelow, hashOf, isFresh, root, run, step, systemEnvironment, writeStamp } from './run.mjs';

const isTest = (path) => /\.test\.(tsx?|mjs)$/.test(path);

/** Builds the app where out/ is older than its sources. */
export async function buildApp() {
  const sources = ['src', 'lab', 'scripts/setup'].flatMap((folder) => filesBelow(join(root, folder), isTest));
  const inputs = [...sources, ...['electron.vite.config.ts', 'package-lock.json', 'tsconfig.json'].map((name) => join(root, name))];
  const hash = hashOf(inputs);
  const stamp = join(root, 'out/stamp');
  const results = ['main/electron.js', 'main/machine.js', 'main/cli.js', 'main/serve.js', 'preload/index.cjs', 'renderer/index.html'];
  if (isFresh(stamp, hash, results.map((path) => join(root, 'out', path)))) return;
  await step('Building the app', () =>
    run('The build', join(root, 'scripts/node24'), [join(root, 'node_modules/electron-vite/bin/electron-vite.js'), 'build'], { cwd: root, env: systemEnvironment({ NODE_ENV: 'production' }) }));
  writeStamp(stamp, hash);
}
