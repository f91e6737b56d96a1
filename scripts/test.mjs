// `npm test [-- AREA] [--long]`: brings what is missing, then checks and tests everything, or one area alone, as an ordinary user.
// Ends with the line `N passed, N failed`; exit code 1 on any failure, and when nothing ran.
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { cpus, release, totalmem, userInfo } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { describeElectron, prepareElectron } from './setup/electron.mjs';
import { main, prepareGuestMachines, prepareLabHost, prepareSources, prepareTestGuests } from './setup/index.mjs';
import { probeKvm } from './setup/kvm.mjs';
import { prepareNpm } from './setup/npm.mjs';
import { preparePackages } from './setup/packages.mjs';
import { SetupError, filesBelow, findCommand, root, tryRun } from './setup/run.mjs';
import { areas, sortTests } from './test/areas.mjs';
import { add, closingLine, nothing } from './test/results.mjs';
import { startScreen } from './test/screen.mjs';
import { build, inLab, labMinutes, lint, nodeTests, playwright, typeCheck } from './test/steps.mjs';
import { allowKvm, copyTree, fetchResults, ownCache, prepareUser, runAsUser, takeTurn, userCache } from './test/user.mjs';

const purposes = ['start', 'electron', 'test'];

function readCommandLine() {
  const { values, positionals } = parseArgs({ options: { long: { type: 'boolean', default: false } }, allowPositionals: true });
  const [name, ...more] = positionals;
  const area = areas.find((one) => one.name === name);
  if (more.length > 0 || (name !== undefined && area === undefined)) throw new SetupError(`usage: npm test [-- AREA] [--long]\nAreas: ${areas.map((one) => one.name).join(', ')}`);
  return { area, long: values.long, words: process.argv.slice(2) };
}

/** Root's part: downloads and permissions; then the same command as the ordinary user in a copy of the work tree. */
async function asRoot({ words }) {
  const user = prepareUser();
  const letGo = await takeTurn();
  try {
    process.env.XDG_CACHE_HOME = userCache;
    await preparePackages(purposes);
    await prepareNpm();
    await prepareLabHost();
    await prepareTestGuests();
    const electron = await prepareElectron({ substitute: true });
    ownCache(user);
    allowKvm();
    const copy = await copyTree(user);
    const code = await runAsUser(user, join(copy, 'scripts/node24'), [join(copy, 'scripts/test.mjs'), ...words], electron.official ? {} : { ELECTRON_OVERRIDE_DIST_PATH: electron.folder });
    fetchResults();
    return code;
  } finally {
    letGo();
  }
}

/** Says what the tests run on. */
function describeHost(electron, probe) {
  const { username, uid } = userInfo();
  const modules = ['kvm_intel', 'kvm_amd', 'kvm_pvm'].filter((name) => existsSync(`/sys/module/${name}`));
  const system = existsSync('/etc/os-release') ? /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] : 'Linux';
  const chromium = ['chromium', 'chromium-browser', 'google-chrome'].map(findCommand).find(Boolean);
  const kvm = !existsSync('/dev/kvm') ? 'none' : `${modules.join(', ') || 'of unknown kind'}; ${probe.usable ? 'runs small guests' : 'runs no guests'}${probe.canBootLinux ? ' and Linux' : `, no Linux (${probe.why})`}`;
  console.log(`
User      ${username} (uid ${uid})
System    ${system}, Linux ${release()}, ${cpus().length} processors, ${Math.round(totalmem() / 2 ** 30)} GiB
/dev/kvm  ${kvm}
Electron  ${describeElectron(electron)}
Chromium  ${chromium ? tryRun(chromium, ['--version']).stdout.trim() : 'none'}
Node      ${process.version}
`);
}

async function asUser({ area, long }) {
  rmSync(join(root, 'test-results'), { recursive: true, force: true });
  await prepareSources(purposes);
  await prepareLabHost();
  await prepareTestGuests();
  await prepareGuestMachines();
  const electron = await prepareElectron({ substitute: true });
  if ('reason' in electron) throw new SetupError(electron.reason);
  const probe = probeKvm();
  describeHost(electron, probe);

  const paths = ['src', 'lab', 'bench', 'scripts', 'e2e'].flatMap((folder) => filesBelow(join(root, folder))).map((path) => relative(root, path));
  const tests = sortTests(paths, area);
  const total = nothing();
  const failedSteps = [];
  const step = async (name, work) => {
    const start = performance.now();
    console.log(`▶ ${name} …`);
    const { output, ...counts } = await work();
    add(total, counts);
    const bad = counts.failed > 0;
    if (bad) {
      failedSteps.push(name);
      console.log(output.trimEnd());
    }
    console.log(`${bad ? '✖' : '✔'} ${name}: ${closingLine(counts)}, ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return !bad;
  };
  const some = (files, name, work) => (files.length > 0 ? step(name, work) : undefined);

  if (area === undefined || area.checks) {
    await step('type check', typeCheck);
    await step('lint and import rules', lint);
  }
  const built = await step('build', build);
  await some(tests.unit, 'unit tests', () => nodeTests('unit-tests', tests.unit, { long }));
  await some(tests.kvm, probe.usable ? 'KVM tests on /dev/kvm' : 'KVM tests in the lab', () =>
    nodeTests('kvm-tests', tests.kvm, { long, concurrency: 1, ...(probe.usable ? {} : { prefix: inLab(labMinutes), minutes: labMinutes + 1 }) }));
  // A lab has one processor, so two labs run side by side. The longest files take longest: they begin first, so that both lanes end together.
  const labFiles = tests.lab.toSorted((one, other) => statSync(join(root, other)).size - statSync(join(root, one)).size);
  await some(tests.lab, 'lab tests', () => nodeTests('lab-tests', labFiles, { long, minutes: long ? undefined : labMinutes }));
  if (built && tests.e2e.length > 0) {
    const screen = await startScreen();
    const env = { DISPLAY: screen.display, GDK_BACKEND: 'x11', ...(electron.official ? {} : { ELECTRON_OVERRIDE_DIST_PATH: electron.folder }) };
    try {
      await step(`Playwright in ${describeElectron(electron)}`, () => playwright('electron', tests.e2e, { env, long }));
      await step('Playwright in the browser shell', () => playwright('browser', tests.e2e, { env, long }));
    } finally {
      screen.stop();
    }
  }
  if (failedSteps.length > 0) console.log(`\nFailed: ${failedSteps.join('; ')}. The logs are in test-results/.`);
  console.log(`\n${closingLine(total)}`);
  return total.failed > 0 || total.passed === 0 ? 1 : 0;
}

await main(() => {
  const commandLine = readCommandLine();
  return process.geteuid?.() === 0 ? asRoot(commandLine) : asUser(commandLine);
});
