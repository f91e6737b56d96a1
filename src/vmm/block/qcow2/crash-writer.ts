// A process for crash.test.ts to kill: writes to an image until it is gone. Its requests follow from the seed; after each flush it says how
// many writes that covered. argv: path, seed, blocks, bytes of a block.
import { writeSync } from 'node:fs';
import { openFileIo } from '../../io/file-io.ts';
import { scratchPool } from '../../io/io-buffers.ts';
import { openDisk } from '../open-disk.ts';
import { crashPlan } from './crash-plan.ts';

const [path, seed, blocks, blockBytes] = [process.argv[2]!, ...process.argv.slice(3).map(Number)] as [string, number, number, number];
const io = openFileIo();
const disk = openDisk(path, { io, readonly: false });
const busy = new Map<number, number>();
let failed = 0;
for (const step of crashPlan(seed, blocks)) {
  if (failed !== 0) throw new Error(`errno ${failed}`);
  while (io.pending > 16 || (step.kind === 'write' && (busy.get(step.block) ?? 0) > 0)) io.wait();
  if (step.kind === 'write') {
    const scratch = scratchPool.take(blockBytes);
    new Uint32Array(scratch.bytes.buffer, scratch.bytes.byteOffset, blockBytes / 4).fill(step.stamp);
    busy.set(step.block, 1);
    disk.write(step.block * blockBytes, scratch.list, (errno) => {
      failed ||= errno;
      busy.set(step.block, 0);
      scratch.giveBack();
    });
  } else if (step.kind === 'discard') {
    disk.discard(step.offset, step.bytes, (errno) => { failed ||= errno; });
  } else {
    while (io.pending > 0) io.wait();
    const flushed: number[] = [];
    disk.flush((errno) => flushed.push(errno));
    while (flushed.length === 0) io.wait();
    writeSync(1, `${step.stamp}\n`);
  }
}
