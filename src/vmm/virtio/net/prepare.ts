// What a network card needs of the host before it is built, on the control thread: a TAP interface's queues, or to know that passt is there. passt
// itself is started when the card's Worker can take its socket (machine/networks.ts).
import { close } from '../../kvm/libc.ts';
import { checkForwards, findPasst, mtuFor, readHostNetwork } from '../../net/passt-program.ts';
import { openTap } from '../../net/tap.ts';
import type { NetConfig } from './model.ts';
import type { NetPrepared } from './prepared.ts';

/** Throws VitrineError, with nothing taken. */
export function prepareNet({ backend }: NetConfig): NetPrepared {
  if (backend.kind === 'none') return { kind: 'none' };
  if (backend.kind === 'user') {
    checkForwards(backend.forwards);
    return { kind: 'user', mtu: mtuFor(findPasst(), readHostNetwork().sendRoom) };
  }
  const { name, queues, mtu, udpSegments } = openTap(backend.name, backend.queues);
  return { kind: 'tap', name, queues, mtu, udpSegments };
}

/** No thread has the card any more. */
export function giveNet(prepared: NetPrepared): void {
  if (prepared.kind === 'tap') for (const fd of prepared.queues) close(fd);
}
