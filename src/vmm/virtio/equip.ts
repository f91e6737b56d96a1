// What a virtio device needs of the host before it is built, on the control thread: eventfds, and for some kinds more. Taken back when no thread has
// the device any more.
import { close, eventfd } from '../kvm/libc.ts';
import type { VirtioConfig } from '../../shared/machine-config.ts';
import type { DropGate } from './balloon/drop-gate.ts';
import type { VirtioDescription } from './description.ts';
import { virtioModel } from './models.ts';
import { giveNet, prepareNet } from './net/prepare.ts';
import type { NetPrepared } from './net/prepared.ts';

/** Throws VitrineError or SystemError, with nothing taken. @param gate of the machine's balloons */
export function equipVirtio(config: VirtioConfig, slot: number, machine: { readonly id: string; readonly name: string }, gate: DropGate): VirtioDescription {
  const made: number[] = [];
  const make = (): number => {
    const fd = eventfd();
    made.push(fd);
    return fd;
  };
  try {
    const { queues } = virtioModel(config, machine.id, slot);
    const wires = { control: make(), kicks: queues.map(make) };
    const prepared = config.kind === 'virtio-net' ? { prepared: prepareNet(config) } : config.kind === 'virtio-balloon' ? { prepared: gate.buffer } : {};
    return { slot, config, machine, wires, ...prepared };
  } catch (thrown) {
    for (const fd of made) close(fd);
    throw thrown;
  }
}

/** No thread has the device any more. */
export function unequipVirtio({ config, wires, prepared }: VirtioDescription): void {
  if (config.kind === 'virtio-net') giveNet(prepared as NetPrepared);
  for (const fd of [wires.control, ...wires.kicks]) close(fd);
}
