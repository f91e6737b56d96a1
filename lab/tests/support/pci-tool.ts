// The programs pci-tool.c and vsock-tool.c, for Linux guests: compiled by the host's C compiler, with no library.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const FLAGS = ['-O2', '-static', '-nostdlib', '-nostartfiles', '-ffreestanding', '-fno-builtin', '-fno-stack-protector', '-fno-pie', '-no-pie'];

/** The program's file. */
export function compilePciTool(): Uint8Array {
  return compile('pci-tool');
}

/** The program's file. */
export function compileVsockTool(): Uint8Array {
  return compile('vsock-tool');
}

function compile(name: string): Uint8Array {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), `vitrine-${name}-`));
  try {
    const target = path.join(folder, name);
    execFileSync('cc', [...FLAGS, '-o', target, path.join(import.meta.dirname, `${name}.c`)], { stdio: ['ignore', 'ignore', 'pipe'] });
    return fs.readFileSync(target);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/** What `paint` draws at a pixel: 0xRRGGBB. */
export function painted(x: number, y: number, seed: number): number {
  return 0x400000 | (((x * 5 + seed * 37) & 0xff) << 8) | ((y * 3 + seed * 101) & 0xff);
}
