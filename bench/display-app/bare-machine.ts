// A machine without a guest, for comparison: the same server, the same messages, but nothing is looked at, compared or packed: two pictures,
// made once, go out by turns as fast as the viewer acknowledges. Takes a machine's arguments: --folder FOLDER --socket PATH.
import { parseArgs } from 'node:util';
import { MAX_IN_FLIGHT, frameBytes, writeFrameHead } from '../../src/shared/protocol/frames.ts';
import type { ScreenAttachment, ScreenViewer } from '../../src/vmm/server/control.ts';
import { beginRun } from '../../src/vmm/server/run-record.ts';
import { serveMachine } from '../../src/vmm/server/serve.ts';
import { FakeMachine } from '../../src/vmm/server/testing/fake-machine.ts';

const WIDTH = 1280;
const HEIGHT = 800;

class BareMachine extends FakeMachine {
  override attachViewer(viewer: ScreenViewer): ScreenAttachment {
    const whole = [{ x: 0, y: 0, width: WIDTH, height: HEIGHT }];
    const rectangles = [{ x: 0, y: 0, width: WIDTH, height: rows }];
    const messages = Array.from({ length: MAX_IN_FLIGHT }, (_, index) => new Uint8Array(frameBytes(rectangles)).fill(0x40 * (index + 1)));
    const first = new Uint8Array(frameBytes(whole));
    let seq = 0;
    let attached = true;
    const send = (): void => {
      const message = seq === 0 ? first : messages[seq % MAX_IN_FLIGHT]!;
      writeFrameHead(message, { seq, whole: seq === 0, blank: false, width: WIDTH, height: HEIGHT, takenAt: performance.timeOrigin + performance.now() }, seq === 0 ? whole : rectangles);
      seq++;
      viewer.send(message);
    };
    for (let ahead = 0; ahead < MAX_IN_FLIGHT; ahead++) send();
    return {
      acknowledge: () => {
        if (attached) send();
      },
      detach: () => (attached = false),
    };
  }
}

const { values } = parseArgs({ options: { folder: { type: 'string' }, socket: { type: 'string' }, rows: { type: 'string', default: `${HEIGHT}` } } });
const rows = Number(values.rows);
const run = await beginRun(values.folder!, values.socket!);
const machine = new BareMachine('bare', 'Bare loop');
machine.facts.update({ screen: { width: WIDTH, height: HEIGHT } });
const server = await serveMachine({ socketPath: values.socket!, machine });
process.on('SIGTERM', () => {
  run.writeOutcome({ endedAt: Date.now(), how: 'forced' });
  void server.close().then(() => process.exit());
});
console.log('ready');
