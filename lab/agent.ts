// The agent inside the lab: root's process there that runs commands for the host, pipes Unix sockets to it, and powers the lab off
// when nobody needs it any more. It is started by the lab's init (scripts/setup/lab-init.mjs) and speaks lab/protocol.ts.
//
// Every command gets a control group of its own, so that it can be killed with all it started, however that was detached. An
// ordinary user's command is started through setpriv, which sets the group `kvm` beside the user's own (Node's spawn would drop it).

import { spawn } from 'node:child_process';
import { timingSafeEqual } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import process from 'node:process';
import { FRAME, FrameReader, LAB_CACHE, LineReader, READY_LINE, frame } from './protocol.ts';
import type { AgentConfig, ExitFrame, Reply, Request, RunRequest } from './protocol.ts';

const CGROUPS = '/sys/fs/cgroup';
const SHELL = '/bin/sh';
const SETPRIV = '/usr/bin/setpriv';
/** Puts itself into the control group $0, then becomes the command. */
const ENTER_CGROUP = 'echo 0 > "$0/cgroup.procs"; exec "$@"';
/** A shell's exit code for a command that is not there. */
const NOT_FOUND = 127;
const REQUEST_MILLISECONDS = 30_000;
const POLITE_MILLISECONDS = 2_000;

const config = JSON.parse(fs.readFileSync(process.argv[2]!, 'utf8')) as AgentConfig;
const commands = new Set<string>();
let connections = 0;
let commandNumber = 0;
let idleTimer: NodeJS.Timeout | undefined;
let stopping = false;

/** The ordinary user's groups: the own one and every one that the lab's /etc/group gives, and kvm. */
function userGroups(): number[] {
  const groups = new Set([config.gid]);
  for (const line of fs.readFileSync('/etc/group', 'utf8').split('\n')) {
    const [name, , gid, members] = line.split(':');
    if (gid === undefined) continue;
    if (name === 'kvm' || members?.split(',').includes(config.user)) groups.add(Number(gid));
  }
  return [...groups];
}

function baseEnvironment(user: RunRequest['user']): Record<string, string> {
  const path = '/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin';
  const common = { PATH: path, LANG: 'C.UTF-8', SHELL: '/bin/sh', VITRINE_IN_LAB: '1', VITRINE_LAB_CACHE: LAB_CACHE };
  if (user === 'root') return { ...common, HOME: '/root', USER: 'root', LOGNAME: 'root', XDG_RUNTIME_DIR: '/run' };
  return { ...common, HOME: config.home, USER: config.user, LOGNAME: config.user, XDG_RUNTIME_DIR: `/run/user/${config.uid}` };
}

function idleSoon(milliseconds: number): void {
  clearTimeout(idleTimer);
  idleTimer = setTimeout(() => void shutDown('nobody needs the lab any more'), milliseconds);
}

/** Kills every command and ends; init then syncs and powers off. */
async function shutDown(why: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  console.log(`The lab's agent ends: ${why}`);
  const groups = [...commands];
  for (const group of groups) signalGroup(group, 'SIGTERM');
  const deadline = Date.now() + POLITE_MILLISECONDS;
  while (groups.some(isPopulated) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
  for (const group of groups) killGroup(group);
  process.exit(0);
}

function isPopulated(group: string): boolean {
  try {
    return fs.readFileSync(`${group}/cgroup.events`, 'utf8').includes('populated 1');
  } catch {
    return false;
  }
}

function signalGroup(group: string, signal: NodeJS.Signals): void {
  let pids: string[];
  try {
    pids = fs.readFileSync(`${group}/cgroup.procs`, 'utf8').split('\n').filter(Boolean);
  } catch {
    return;
  }
  for (const pid of pids) {
    try {
      process.kill(Number(pid), signal);
    } catch {
      // it ended meanwhile
    }
  }
}

function killGroup(group: string): void {
  try {
    fs.writeFileSync(`${group}/cgroup.kill`, '1');
  } catch {
    signalGroup(group, 'SIGKILL'); // a kernel before 5.14, or the group is gone
  }
}

/** Runs a command for one connection; `rest` are bytes that came with the request. */
function runCommand(request: RunRequest, socket: net.Socket, rest: Buffer): void {
  if (!fs.existsSync(request.cwd)) {
    socket.write(frame(FRAME.STDERR, Buffer.from(`the lab has no folder ${request.cwd} in which to start ${request.argv[0]}\n`)));
    socket.end(frame(FRAME.EXIT, Buffer.from(JSON.stringify({ code: NOT_FOUND, signal: null } satisfies ExitFrame))));
    return;
  }
  // forget what was cached of the host's files; what is in use stays
  if (request.fresh) fs.writeFileSync('/proc/sys/vm/drop_caches', '2');
  const group = `${CGROUPS}/vitrine-${++commandNumber}`;
  fs.mkdirSync(group);
  commands.add(group);
  const asUser = [SETPRIV, `--reuid=${config.uid}`, `--regid=${config.gid}`, `--groups=${userGroups().join()}`, '--inh-caps=-all', '--'];
  const argv = request.user === 'root' ? request.argv : [...asUser, ...request.argv];
  const child = spawn(SHELL, ['-c', ENTER_CGROUP, group, ...argv], {
    cwd: request.cwd,
    env: { ...baseEnvironment(request.user), ...request.env },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe']
  });
  let ended = false;

  const send = (type: number, payload: Uint8Array): void => {
    if (socket.destroyed) return;
    if (socket.write(frame(type, payload)) || type === FRAME.TAKEN) return;
    child.stdout.pause();
    child.stderr.pause();
    socket.once('drain', () => {
      child.stdout.resume();
      child.stderr.resume();
    });
  };
  const finish = (exit: ExitFrame): void => {
    if (ended) return;
    ended = true;
    fs.rmdir(group, () => commands.delete(group)); // fails, and is meant to, while something detached lives on in it
    send(FRAME.EXIT, Buffer.from(JSON.stringify(exit)));
    socket.end();
  };
  const abandon = (): void => {
    if (ended) return;
    ended = true;
    killGroup(group);
    child.stdout.resume();
    child.stderr.resume();
    child.once('close', () => fs.rmdir(group, () => commands.delete(group)));
    socket.destroy();
  };

  child.stdout.on('data', (chunk: Buffer) => send(FRAME.STDOUT, chunk));
  child.stderr.on('data', (chunk: Buffer) => send(FRAME.STDERR, chunk));
  child.stdin.on('error', () => {}); // the command closed its input: what is sent on is dropped
  child.on('error', (error) => {
    send(FRAME.STDERR, Buffer.from(`the lab's agent cannot start ${request.argv[0]}: ${error.message}\n`));
    finish({ code: NOT_FOUND, signal: null });
  });
  child.on('close', (code, signal) => finish({ code, signal }));

  const reader = new FrameReader((type, payload) => {
    if (type === FRAME.STDIN) {
      const taken = (): void => send(FRAME.TAKEN, Buffer.alloc(0));
      if (child.stdin.writable) child.stdin.write(Buffer.from(payload), taken);
      else taken();
    } else if (type === FRAME.STDIN_END) child.stdin.end();
    else if (type === FRAME.SIGNAL && child.pid !== undefined) {
      try {
        process.kill(-child.pid, payload.toString() as NodeJS.Signals);
      } catch {
        // it ended meanwhile
      }
    }
  });
  const take = (chunk: Buffer): void => {
    try {
      reader.push(chunk);
    } catch {
      abandon();
    }
  };
  if (rest.length > 0) take(rest);
  socket.on('data', take);
  socket.on('end', abandon);
  socket.on('close', abandon);
}

/** Connects a connection with a Unix socket of the lab. */
function pipe(path: string, socket: net.Socket, rest: Buffer): void {
  const other = net.connect({ path, allowHalfOpen: true });
  other.once('connect', () => {
    reply(socket, { ok: true });
    if (rest.length > 0) other.write(rest);
    socket.pipe(other);
    other.pipe(socket);
  });
  other.once('error', (error) => {
    if (other.connecting || other.pending) {
      reply(socket, { ok: false, why: error.message });
      socket.end();
    } else socket.destroy();
  });
  other.on('close', () => socket.destroySoon());
  socket.on('close', () => other.destroy());
}

function reply(socket: net.Socket, answer: Reply): void {
  socket.write(JSON.stringify(answer) + '\n');
}

/** The request on a connection's first line, or undefined if it does not carry the token. */
function parseRequest(line: string): Request | undefined {
  const { token, ...request } = JSON.parse(line) as Request & { token: string };
  const given = Buffer.from(String(token));
  const expected = Buffer.from(config.token);
  return given.length === expected.length && timingSafeEqual(given, expected) ? (request as Request) : undefined;
}

function serve(socket: net.Socket, request: Request, rest: Buffer): void {
  if (stopping) {
    socket.destroy();
    return;
  }
  if (request.op === 'ping') {
    reply(socket, { ok: true });
    socket.end();
    return;
  }
  if (request.op === 'shutdown') {
    reply(socket, { ok: true });
    socket.end(() => void shutDown('the host asked for it'));
    return;
  }
  connections++;
  clearTimeout(idleTimer);
  socket.once('close', () => {
    if (--connections === 0) idleSoon(config.idleMilliseconds);
  });
  if (request.op === 'pipe') {
    pipe(request.path, socket, rest);
    return;
  }
  reply(socket, { ok: true });
  if (request.op === 'run') runCommand(request, socket, rest);
  else {
    socket.resume();
    socket.on('end', () => socket.end());
  }
}

const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  const reader = new LineReader();
  const timer = setTimeout(() => socket.destroy(), REQUEST_MILLISECONDS);
  socket.on('error', () => socket.destroy());
  const first = (chunk: Buffer): void => {
    try {
      const found = reader.push(chunk);
      if (found === undefined) return;
      clearTimeout(timer);
      socket.off('data', first);
      socket.off('end', gone);
      const request = parseRequest(found.line);
      if (request === undefined) socket.destroy();
      else serve(socket, request, found.rest);
    } catch {
      socket.destroy();
    }
  };
  const gone = (): void => void socket.destroy();
  socket.on('data', first);
  socket.on('end', gone);
  socket.once('close', () => clearTimeout(timer));
});

fs.unlinkSync(process.argv[2]!);
server.listen(config.port, '0.0.0.0', () => {
  console.log(READY_LINE);
  idleSoon(config.firstMilliseconds);
});
