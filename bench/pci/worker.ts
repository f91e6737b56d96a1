// A vCPU's thread of bench/pci/mmio.ts.
import { parentPort, workerData } from 'node:worker_threads';
import { threadId } from '../../src/vmm/machine/kick.ts';
import { buildThread, type ThreadDescription } from '../../src/vmm/machine/thread.ts';
import { VcpuLoop } from '../../src/vmm/machine/vcpu-loop.ts';

export interface MmioWorkerData {
  readonly description: ThreadDescription;
  readonly id: number;
  readonly fd: number;
}

const { description, id, fd } = workerData as MmioWorkerData;
const { states, devices } = buildThread(description, id, () => {});
const loop = new VcpuLoop({
  id, fd,
  run: description.runs[id]!,
  states,
  ports: devices.io,
  memory: devices.memory,
  stopped: (stop) => {
    throw new Error(`the benchmark's guest stopped: ${JSON.stringify(stop)}`);
  },
});
parentPort!.postMessage('ready');
loop.run(threadId());
