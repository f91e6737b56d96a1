// What a virtio device needs of the host before it is built, on the control thread: eventfds, and for some kinds more. Taken back when no thread has
// the device any more.
import { close, eventfd } from '../kvm/libc.ts';
import type { VirtioConfig } from '../../shared/machine-config.ts';
import type { VirtioDescription } from './description.ts';
import { virtioModel } from './models.ts';
import { giveNet, prepareNet } from './net/prepare.ts';
import type { NetPrepared } from './net/prepared.ts';

/** Throws VitrineError or SystemError, with nothing taken. */
export function equipVirtio(config: VirtioConfig, slot: number, machine: { readonly id: string; readonly name: string }): VirtioDescription {
  const made: number[] = [];
  const make = (): number => {
    const fd = eventfd();
    made.push(fd);
    return fd;
  };
  try {
    const { queues } = virtioModel(config, machine.id, slot);
    const wires = { control: make(), kicks: queues.map(make) };
    return { slot, config, machine, wires, ...(config.kind === 'virtio-net' ? { prepared: prepareNet(config) } : {}) };
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
