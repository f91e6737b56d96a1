// `npm run lab -- [OPTIONS] CMD…`: boots a lab, runs one command in it, and gives its output and exit code.

import { spawnSync } from 'node:child_process';
import process from 'node:process';
import { LAB_CARDS, LAB_DEVICES, LAB_IOMMUS, LAB_KERNELS, LAB_TWINS, parseMemory } from './options.ts';
import type { LabOptions, LabShare } from './options.ts';
import type { LabCommand } from './client.ts';
import { VitrineError } from '../src/shared/errors.ts';
import { startLab } from './host.ts';

const USAGE = `Runs a command in the lab, Vitrine's emulated host with a real /dev/kvm.

  npm run lab -- [OPTIONS] CMD [ARGUMENT…]

  --kernel 6.1|6.12            the lab's own kernel (6.1)
  --iommu intel|amd|none       (none)
  --devices A,B                ${[...LAB_DEVICES, ...LAB_CARDS, ...LAB_TWINS].join(', ')}
  --smp N                      processors, 1 to 8 (1)
  --memory SIZE                like 512M or 8G (2G); committed as it is used
  --root                       run as root; else as an ordinary user of the group kvm
  --share PATH                 a folder that is writable in the lab too, at the same path; may be repeated.
                               Everything else of the host is seen read-only: changes to it vanish with the lab
  --env NAME=VALUE             may be repeated; VITRINE_*, CI, TERM, LANG and NODE_OPTIONS are handed on anyway
  --timeout SECONDS            end the command and the lab after this long; exit code 124
  --verbose                    show the lab's console on standard error
  --prepare                    only download and build what the lab needs

Exit code: the command's; 125 if the lab could not run it, 124 after --timeout.
`;

const LAB_FAILED = 125;
const TIMED_OUT = 124;
const HANDED_ON = /^(VITRINE_\w+|CI|TERM|COLORTERM|LANG|NODE_OPTIONS|FORCE_COLOR|NO_COLOR)$/;

interface Invocation {
  options: LabOptions;
  root: boolean;
  env: Record<string, string>;
  timeout: number | undefined;
  argv: string[];
}

class UsageError extends Error {}

function oneOf<T extends string>(option: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((entry) => entry === value);
  if (found === undefined) throw new UsageError(`${option} takes one of ${allowed.join(', ')}, not "${value}"`);
  return found;
}

function positive(option: string, value: string): number {
  const number = Number(value);
  if (!(number > 0)) throw new UsageError(`${option} takes a number above 0, not "${value}"`);
  return number;
}

/** Undefined for --help and --prepare, which need no lab. */
function parse(args: string[]): Invocation | undefined {
  const shares: LabShare[] = [];
  const options: LabOptions = { shares };
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) if (HANDED_ON.test(name) && name !== 'VITRINE_LAB_CACHE' && value !== undefined) env[name] = value;
  let root = false;
  let timeout: number | undefined;
  const rest = [...args];
  while (rest[0]?.startsWith('-')) {
    const option = rest.shift()!;
    const value = (): string => {
      const next = rest.shift();
      if (next === undefined) throw new UsageError(`${option} needs a value`);
      return next;
    };
    if (option === '--') break;
    else if (option === '--kernel') options.kernel = oneOf(option, value(), LAB_KERNELS);
    else if (option === '--iommu') options.iommu = oneOf(option, value(), LAB_IOMMUS);
    else if (option === '--devices') options.devices = value().split(',').map((name) => oneOf(option, name, [...LAB_DEVICES, ...LAB_CARDS, ...LAB_TWINS]));
    else if (option === '--smp') options.smp = positive(option, value());
    else if (option === '--memory') options.memory = parseMemory(value());
    else if (option === '--root') root = true;
    else if (option === '--share') shares.push({ path: value() });
    else if (option === '--timeout') timeout = positive(option, value()) * 1000;
    else if (option === '--verbose') options.onConsole = (line) => process.stderr.write(`lab: ${line}\n`);
    else if (option === '--env') {
      const [name, ...words] = value().split('=');
      env[name!] = words.join('=');
    } else if (option === '--prepare') return undefined;
    else if (option === '--help' || option === '-h') {
      process.stdout.write(USAGE);
      return undefined;
    } else throw new UsageError(`there is no option ${option}`);
  }
  if (rest.length === 0) throw new UsageError('no command is given');
  return { options, root, env, timeout, argv: rest };
}

/** On a terminal the command gets one in the lab too (script makes it), of the same size, and the keys go through as they are. */
function onTerminal(argv: string[]): string[] {
  const quoted = argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const { columns, rows } = process.stdout;
  return ['script', '-qefc', `stty cols ${columns} rows ${rows}; exec ${quoted}`, '/dev/null'];
}

async function connectStreams(command: LabCommand, terminal: boolean): Promise<void> {
  command.stdout.pipe(process.stdout, { end: false });
  command.stderr.pipe(process.stderr, { end: false });
  process.stdout.on('error', () => command.kill()); // the reader of our output is gone
  if (terminal) process.stdin.setRawMode(true);
  process.stdin.pipe(command.stdin);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => command.signal(signal));
}

async function main(): Promise<number> {
  const invocation = parse(process.argv.slice(2));
  if (invocation === undefined) return 0;
  const { options, root, env, timeout, argv } = invocation;
  const deadline = timeout === undefined ? Infinity : Date.now() + timeout;
  const lab = await startLab({ ...options, ...(timeout === undefined ? {} : { bootTimeout: timeout }) });
  const terminal = process.stdin.isTTY && process.stdout.isTTY;
  let late = false;
  let timer: NodeJS.Timeout | undefined;
  try {
    const command = await lab.start(terminal ? onTerminal(argv) : argv, { cwd: process.cwd(), env, user: root ? 'root' : 'user' });
    if (deadline !== Infinity) {
      timer = setTimeout(() => {
        late = true;
        command.kill();
      }, Math.max(0, deadline - Date.now()));
    }
    await connectStreams(command, terminal);
    const { code } = await command.exited;
    if (late) process.stderr.write(`lab: the command did not end within ${timeout! / 1000} s\n`);
    return late ? TIMED_OUT : code;
  } finally {
    clearTimeout(timer);
    if (terminal) {
      process.stdin.setRawMode(false);
      spawnSync('stty', ['sane'], { stdio: 'inherit' });
    }
    await lab.stop();
  }
}

try {
  const code = await main();
  process.stdin.destroy();
  // written output may still sit in a pipe's queue
  await Promise.all([process.stdout, process.stderr].map((stream) => new Promise<void>((resolve) => stream.write('', () => resolve()))));
  process.exit(code);
} catch (error) {
  const usage = error instanceof UsageError || error instanceof RangeError;
  process.stderr.write(`lab: ${usage ? error.message : error instanceof VitrineError ? error.message : String((error as Error).stack)}\n${usage ? 'See: npm run lab -- --help\n' : ''}`);
  process.exit(LAB_FAILED);
}
