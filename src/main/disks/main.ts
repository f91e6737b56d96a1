// A process that does one thing with disk images and ends: the request is its argument, the answer or the problem its output, both in JSON.
import { toProblem } from '../../shared/errors.ts';
import { perform, type DiskRequest } from './work.ts';

try {
  process.stdout.write(JSON.stringify(perform(JSON.parse(process.argv[2] ?? '') as DiskRequest)));
} catch (thrown) {
  process.stdout.write(JSON.stringify({ problem: toProblem(thrown, 'work on the disk image', '') }));
}
