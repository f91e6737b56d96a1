// `vitrine`: reads the command line, does it, exits with a code that scripts can use (exit-codes.ts).
import { resolve } from 'node:path';
import { sentence, toProblem, VitrineError } from '../shared/errors.ts';
import type { Backend } from '../shared/protocol/machine.ts';
import { vitrineVersion } from '../main/install.ts';
import { serve } from '../main/serve/serve.ts';
import type { Request } from './arguments.ts';
import { parseCommandLine } from './arguments.ts';
import { devices } from './devices.ts';
import { disk } from './disks.ts';
import { examine, inWords } from './doctor.ts';
import { EXIT_FAILED, EXIT_OK, exitCodeOf } from './exit-codes.ts';
import { HELP } from './help.ts';
import { bind, helper, installIt, release, removeIt } from './lease.ts';
import type { Output } from './machines.ts';
import { addDevices, balloon, changeDevice, create, list, listDevices, pauseOrResume, removeDevice, screenshot, start, stop } from './machines.ts';
import { plan } from './plan.ts';
import { revertUnlessKept } from './revert.ts';
import { run } from './run.ts';
import { defaultReportPath, tryAll, writeReport } from './selftest.ts';

const output: Output = { out: (text) => void process.stdout.write(text), err: (text) => void process.stderr.write(text) };

/** --kvm and --lab say what VITRINE_BACKEND says; the launcher and its processes read that. */
function wish(backend: Backend | undefined): void {
  if (backend !== undefined) process.env.VITRINE_BACKEND = backend;
}

async function doctor(json: boolean, selftest: boolean, path: string): Promise<number> {
  const report = await examine();
  if (!selftest) {
    output.out(json ? `${JSON.stringify(report, null, 2)}\n` : inWords(report));
    return report.able ? EXIT_OK : EXIT_FAILED;
  }
  if (!json) output.out(inWords(report));
  const trials = await tryAll(output);
  if (json) output.out(`${JSON.stringify({ ...report, trials }, null, 2)}\n`);
  writeReport(path, report, trials);
  output.err(`The report is in ${path}\n`);
  return trials.every(({ passed }) => passed) ? EXIT_OK : EXIT_FAILED;
}

async function perform(request: Request): Promise<number> {
  switch (request.command) {
    case 'help':
      output.out(`${HELP[request.topic]}\n`);
      return EXIT_OK;
    case 'version':
      output.out(`${vitrineVersion()}\n`);
      return EXIT_OK;
    case 'run':
      wish(request.backend);
      return run(request, output);
    case 'start': {
      wish(request.backend);
      const code = await start(request.names, output);
      return code !== EXIT_OK || request.revert === undefined ? code : revertUnlessKept(request.names, request.revert, output);
    }
    case 'stop':
      return stop(request.names, request.force, request.seconds, output);
    case 'pause':
    case 'resume':
      return pauseOrResume(request.command, request.names, output);
    case 'list':
      return list(request.json, output);
    case 'balloon':
      return balloon(request.name, request.bytes, output);
    case 'screenshot':
      return screenshot(request.name, request.file, output);
    case 'device':
      if (request.action === 'list') return listDevices(request.name, request.json, output);
      if (request.action === 'add') return addDevices(request.name, request.devices, request.keep, output);
      return removeDevice(request.name, request.slot, { force: request.force, seconds: request.seconds }, output);
    case 'create':
      return create(request.machine, output);
    case 'change':
      return changeDevice(request.name, request.slot, request.change, output);
    case 'disk':
      return disk(request.wish, output);
    case 'serve':
      wish(request.backend);
      await serve(request.port, (line) => output.out(`${line}\n`));
      return EXIT_OK;
    case 'devices':
      return devices(request, output);
    case 'plan':
      return plan(request, output);
    case 'bind':
      return bind(request.addresses, output);
    case 'release':
      return release(request.addresses, output);
    case 'helper':
      return request.what === 'show' ? helper(request.json, output) : request.what === 'install' ? installIt(output) : removeIt(output);
    case 'doctor':
      return doctor(request.json, request.selftest, request.report === undefined ? defaultReportPath() : resolve(request.report));
  }
}

/** Pipes take what they were given before the process goes. */
function drained(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((done) => stream.write('', () => done()));
}

async function main(): Promise<number> {
  // Whoever reads us has heard enough (`vitrine list | head -1`).
  process.stdout.on('error', () => process.exit(EXIT_FAILED));
  try {
    return await perform(parseCommandLine(process.argv.slice(2), process.cwd()));
  } catch (thrown) {
    const problem = toProblem(thrown, 'do that');
    output.err(`vitrine: ${sentence(problem)}\n`);
    if (!(thrown instanceof VitrineError) && thrown instanceof Error && process.env.VITRINE_DEBUG !== undefined) output.err(`${thrown.stack ?? ''}\n`);
    return exitCodeOf(problem);
  }
}

void main().then(async (code) => {
  await Promise.all([drained(process.stdout), drained(process.stderr)]);
  process.exit(code);
});
