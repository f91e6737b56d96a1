import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const program = `
  import { closeInherited } from ${JSON.stringify(new URL('./inherited.ts', import.meta.url).href)};
  import { readlinkSync } from 'node:fs';
  const closed = closeInherited([5]);
  const again = closeInherited([5]);
  console.log(JSON.stringify({ closed: closed.filter((fd) => fd < 6), again, kept: readlinkSync('/proc/self/fd/5') }));
`;

test('a socket and a file that the parent left open are closed, one to keep and those of Node are not', async () => {
  const file = fileURLToPath(import.meta.url);
  const fd = openSync(file, 'r');
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit', 'pipe', fd, fd] });
  let said = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
  await once(child, 'close');
  closeSync(fd);
  server.close();
  assert.deepEqual(JSON.parse(said), { closed: [3, 4], again: [], kept: file });   // 3: libuv makes a 'pipe' of a pair of sockets
});
