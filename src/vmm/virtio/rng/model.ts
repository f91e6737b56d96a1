// The entropy device (virtio 1.3 §5.4): one queue of room that the device fills with random bytes.
import { TYPE_RNG } from '../constants.ts';
import type { VirtioModel } from '../model.ts';

const QUEUE_SIZE = 64;
/** Encryption controller, other: what nothing else fits. */
const CLASS_CODE = 0x10_80_00;

export function rngModel(): VirtioModel {
  return { type: TYPE_RNG, name: 'virtio-rng', classCode: CLASS_CODE, queues: [QUEUE_SIZE], features: [], config: new Uint8Array(0) };
}
