// Asks the C compiler what a header's constants, sizes and offsets are, for tests of layouts that are written down here.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The value of each C expression, as an unsigned number below 2^53. */
export function cValues(headers: readonly string[], expressions: Record<string, string>): Record<string, number> {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-c-'));
  try {
    const lines = Object.entries(expressions).map(([name, expression]) => `  printf("${name} %llu\\n", (unsigned long long)(${expression}));`);
    const source = `${headers.map((h) => `#include <${h}>`).join('\n')}\n#include <stdio.h>\nint main(void) {\n${lines.join('\n')}\n  return 0;\n}\n`;
    writeFileSync(join(folder, 'values.c'), source);
    execFileSync('cc', ['-o', join(folder, 'values'), join(folder, 'values.c')], { stdio: ['ignore', 'ignore', 'pipe'] });
    const output = execFileSync(join(folder, 'values'), { encoding: 'utf8' });
    return Object.fromEntries(output.trim().split('\n').map((line) => {
      const [name, value] = line.split(' ');
      return [name!, Number(value)];
    }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
