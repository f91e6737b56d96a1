// The C of a benchmark, compiled when it is needed, for the time of the run.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

/** Compiles `source` to a shared library, which goes with this process. @returns its path. Throws when there is no compiler. */
export function compileLibrary(source: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const target = join(folder, `${basename(source, '.c')}.so`);
  execFileSync('cc', ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-o', target, source], { stdio: 'inherit' });
  return target;
}

/** Compiles and links `source` to a program that needs no library where it runs: for guests. @returns its path */
export function compileStatic(source: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const target = join(folder, basename(source, '.c'));
  execFileSync('cc', ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-static', '-pthread', '-o', target, source], { stdio: 'inherit' });
  return target;
}

/** Compiles and links `source` to a program without a C library, for use as a guest's first process. @returns its path */
export function compileStandalone(source: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const target = join(folder, basename(source, '.c'));
  execFileSync('cc', ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-ffreestanding', '-fno-stack-protector', '-nostdlib', '-static', '-o', target, source], { stdio: 'inherit' });
  return target;
}
