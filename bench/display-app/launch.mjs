// Starts the measurement as an ordinary user on an X server of its own: Electron with its sandbox does not start as root. What root does is
// what it does for the tests: the same user, the same copy of the work tree.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describeElectron, prepareElectron } from '../../scripts/setup/electron.mjs';
import { buildApp } from '../../scripts/setup/build.mjs';
import { main, prepareSources } from '../../scripts/setup/index.mjs';
import { SetupError, root, systemEnvironment } from '../../scripts/setup/run.mjs';
import { startScreen } from '../../scripts/test/screen.mjs';
import { allowKvm, copyTree, ownCache, prepareUser, runAsUser, takeTurn, userCache } from '../../scripts/test/user.mjs';

const purposes = ['start', 'electron', 'test'];

async function asRoot() {
  const user = prepareUser();
  const letGo = await takeTurn();
  try {
    process.env.XDG_CACHE_HOME = userCache;
    await prepareSources(purposes);
    const electron = await prepareElectron({ substitute: true });
    ownCache(user);
    allowKvm();
    const copy = await copyTree(user);
    const more = electron.official ? {} : { ELECTRON_OVERRIDE_DIST_PATH: electron.folder };
    return await runAsUser(user, join(copy, 'scripts/node24'), [join(copy, 'bench/display-app/launch.mjs')], more);
  } finally {
    letGo();
  }
}

async function asUser() {
  await prepareSources(purposes);
  await buildApp();
  const electron = await prepareElectron({ substitute: true });
  if ('reason' in electron) throw new SetupError(electron.reason);
  const screen = await startScreen();
  try {
    const env = systemEnvironment({
      DISPLAY: screen.display, GDK_BACKEND: 'x11', VITRINE_BACKEND: 'kvm', VITRINE_BENCH_ELECTRON: describeElectron(electron),
      ...(electron.official ? {} : { ELECTRON_OVERRIDE_DIST_PATH: electron.folder }),
    });
    return await new Promise((done) => spawn(join(root, 'scripts/node24'), [join(root, 'bench/display-app/measure.ts')], { cwd: root, env, stdio: 'inherit' }).on('exit', (code) => done(code ?? 1)));
  } finally {
    screen.stop();
  }
}

await main(() => (process.getuid() === 0 ? asRoot() : asUser()));
