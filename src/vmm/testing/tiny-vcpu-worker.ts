// A vCPU's thread of tiny-machine.ts.
import { parentPort, workerData } from 'node:worker_threads';
import { signalThread, threadId } from '../machine/kick.ts';
import { VcpuLoop } from '../machine/vcpu-loop.ts';
import { VcpuStates } from '../machine/vcpu-state.ts';
import { Arena } from '../sync/arena.ts';
import type { TinyWorkerData } from './tiny-machine.ts';

const data = workerData as TinyWorkerData;
const arena = Arena.attach(data.arena);
const counts = arena.int32('counts', 8);
const add = (index: number, n = 1): void => {
  Atomics.add(counts, index, n);
};
new VcpuLoop({
  id: data.id,
  fd: data.fd,
  run: data.runs[data.id]!,
  states: new VcpuStates(arena, data.runs.map((run) => new Uint8Array(run, 1, 1)), signalThread),
  ports: {
    write: () => add(0),
    read: () => {
      add(1);
      return 0x5a5a5a5a;
    },
    readBytes: () => add(1),
    writeBytes: () => add(0),
  },
  memory: {
    write: (_address, width) => {
      add(2);
      add(4, width);
    },
    read: () => {
      add(3);
      return 0xffffffff;
    },
    readBytes: (_address, view, offset, length) => {
      add(3);
      for (let i = 0; i < length; i++) view.setUint8(offset + i, 0xff);
    },
    writeBytes: (_address, _view, _offset, length) => {
      add(2);
      add(4, length);
    },
  },
  stopped: (stop) => parentPort!.postMessage({ stop }),
}).run(threadId());
