// Full frames a second from a screen source through a WebSocket on a Unix socket to a client in another process, against a bare loop that
// sends the same bytes the same way (two messages ahead of the acknowledgements, nothing compared, nothing copied). And what an idle,
// attached screen costs. The guest is played by this process: each frame, every pixel differs and every page is dirty.
// Run: scripts/node24 bench/display-pipe.ts [seconds a round]
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocket, WebSocketServer } from 'ws';
import { MAX_IN_FLIGHT, decodeAck, decodeFrame, encodeAck, frameBytes, writeFrameHead } from '../src/shared/protocol/frames.ts';
import { DisplayAdapter, VRAM_BYTES, VRAM_PAGES } from '../src/vmm/display/adapter.ts';
import { ScreenSource } from '../src/vmm/display/screen-source.ts';
import { allocateWindow } from '../src/vmm/memory/window.ts';
import { FakePlatform } from '../src/vmm/testing/fake-platform.ts';

const ROUNDS = 9;
const IDLE_SECONDS = 5;
const SIZES = [{ width: 1280, height: 800 }, { width: 1920, height: 1080 }];

/** The client: takes every frame, looks at it as the page does, acknowledges. */
function client(path: string): void {
  const socket = new WebSocket(`ws+unix:${path}:/`, { perMessageDeflate: false });
  socket.binaryType = 'arraybuffer';
  socket.on('message', (data: ArrayBuffer) => {
    const frame = decodeFrame(new Uint8Array(data));
    if (frame !== null) socket.send(encodeAck(frame.seq));
  });
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, ms); });

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** Every pixel of the picture becomes another, as cheaply as can be: two pictures by turns, at two places of the memory. */
function drawnByTurns(adapter: DisplayAdapter, height: number): () => void {
  let page = 0;
  return () => {
    page = 1 - page;
    adapter.mutex.run(() => adapter.mmio.write(0x500 + 9 * 2, 2, page * height));
  };
}

interface Rate {
  frames: number;
  /** Milliseconds of this process's processor time a frame. */
  cpu: number;
}

async function measure(seconds: number, run: (count: () => void) => () => void): Promise<Rate> {
  let frames = 0;
  const stop = run(() => { frames++; });
  await sleep(200);
  const cpu = process.cpuUsage();
  const begin = performance.now();
  frames = 0;
  await sleep(seconds * 1000);
  const rate = (frames * 1000) / (performance.now() - begin);
  const { user, system } = process.cpuUsage(cpu);
  const spent = (user + system) / 1000 / frames;
  stop();
  await sleep(100);
  return { frames: rate, cpu: spent };
}

async function compare(socket: WebSocket, width: number, height: number, seconds: number): Promise<void> {
  const adapter = new DisplayAdapter(new FakePlatform(), vram);
  adapter.reset();
  adapter.setMode({ width, height });
  const memory = new Uint32Array(vram.buffer, 0, VRAM_BYTES / 4);
  for (let i = 0; i < width * height * 2; i++) memory[i] = Math.imul(i, 2654435761) ^ i;
  const flip = drawnByTurns(adapter, height);
  let acknowledged: (seq: number) => void = () => {};
  const onMessage = (data: Buffer): void => {
    const seq = decodeAck(data);
    if (seq !== null) acknowledged(seq);
  };
  socket.on('message', onMessage);

  const source = (count: () => void): (() => void) => {
    // Every look finds another picture.
    const fetchAndClear = (bitmap: Uint8Array): boolean => {
      flip();
      return bitmap.fill(0xff).length === VRAM_PAGES / 8;
    };
    const screen = new ScreenSource({ adapter, vram, busyInterval: 0, log: { fetchAndClear } });
    const attachment = screen.attach({ send: (frame) => socket.send(frame), buffered: () => socket.bufferedAmount });
    acknowledged = (seq) => {
      count();
      attachment.acknowledge(seq);
    };
    return () => {
      attachment.detach();
      screen.close();
    };
  };
  const bare = (count: () => void): (() => void) => {
    const whole = [{ x: 0, y: 0, width, height }];
    const messages = Array.from({ length: MAX_IN_FLIGHT }, () => new Uint8Array(frameBytes(whole)));
    let seq = 0;
    let running = true;
    const send = (): void => {
      const message = messages[seq % MAX_IN_FLIGHT]!;
      writeFrameHead(message, { seq: seq++, whole: true, blank: false, width, height, takenAt: 0 }, whole);
      socket.send(message);
    };
    acknowledged = () => {
      if (!running) return;
      count();
      send();
    };
    for (let i = 0; i < MAX_IN_FLIGHT; i++) send();
    return () => { running = false; };
  };

  const ours: Rate[] = [];
  const theirs: Rate[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(await measure(seconds, source));
    theirs.push(await measure(seconds, bare));
  }
  socket.off('message', onMessage);
  const our = median(ours.map(({ frames }) => frames));
  const their = median(theirs.map(({ frames }) => frames));
  console.log(`${`${width}x${height}`.padEnd(12)} ${our.toFixed(0).padStart(8)} ${their.toFixed(0).padStart(8)} ${(our / their).toFixed(2).padStart(8)}` +
    ` ${median(ours.map(({ cpu }) => cpu)).toFixed(2).padStart(12)} ${median(theirs.map(({ cpu }) => cpu)).toFixed(2).padStart(12)}`);
}

/** The share of a core that an attached screen costs while nothing changes, and the frames that it sends: none. */
async function idle(): Promise<void> {
  const adapter = new DisplayAdapter(new FakePlatform(), vram);
  adapter.reset();
  adapter.setMode({ width: 1280, height: 800 });
  const screen = new ScreenSource({ adapter, vram, log: { fetchAndClear: (bitmap) => bitmap.fill(0).length > 0 } });
  let seq = -1;
  const attachment = screen.attach({ send: (frame) => { seq = decodeFrame(Uint8Array.from(frame))!.seq; }, buffered: () => 0 });
  await sleep(200);
  attachment.acknowledge(seq);
  await sleep(200);
  const before = screen.frames;
  const cpu = process.cpuUsage();
  await sleep(IDLE_SECONDS * 1000);
  const { user, system } = process.cpuUsage(cpu);
  console.log(`\nidle, attached: ${screen.frames - before} frames in ${IDLE_SECONDS} s, ${((user + system) / (IDLE_SECONDS * 1e4)).toFixed(2)} % of a core (the ioctl not counted)`);
  screen.close();
}

const vram = allocateWindow(VRAM_BYTES);

async function main(): Promise<void> {
  const seconds = Number(process.argv[2] ?? 2);
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  const path = join(folder, 'sock');
  const server = createServer();
  const sockets = new WebSocketServer({ server, perMessageDeflate: false });
  await new Promise<void>((resolve) => { server.listen(path, resolve); });
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', fileURLToPath(import.meta.url), '--client', path], { stdio: 'inherit' });
  const socket = await new Promise<WebSocket>((resolve) => { sockets.once('connection', resolve); });
  console.log('full frames     ours     bare    ratio  ours ms cpu  bare ms cpu   (a second, medians; processor time of the sender a frame)');
  for (const { width, height } of SIZES) await compare(socket, width, height, seconds);
  await idle();
  socket.close();
  child.kill();
  server.close();
  rmSync(folder, { recursive: true });
}

if (process.argv[2] === '--client') client(process.argv[3]!);
else await main();
