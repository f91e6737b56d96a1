// A vCPU's thread that cannot build a device that comes later, on CPU 1; all else as ever.
import { workerData } from 'node:worker_threads';
import type { VcpuWorkerData } from '../machine/vcpu-worker.ts';
import { Arena } from '../sync/arena.ts';

if ((workerData as VcpuWorkerData).id === 1) {
  Arena.prototype.learn = () => {
    throw new Error('it has no room');
  };
}
await import('../machine/vcpu-worker.ts');
