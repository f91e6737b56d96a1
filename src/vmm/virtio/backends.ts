// The backend of each kind of virtio device. Read by I/O Workers alone: a vCPU's thread needs none of it.
import type { Backend, BackendHost } from './backend.ts';
import type { VirtioDescription } from './description.ts';
import { makeBlkBackend } from './blk/backend.ts';
import { InputBackend } from './input/backend.ts';
import { NinepBackend } from './ninep/backend.ts';
import { NetBackend } from './net/backend.ts';
import type { NetPrepared } from './net/prepared.ts';
import { RngBackend } from './rng/backend.ts';

/** Throws VitrineError when the host cannot give what the device needs. */
export function makeBackend({ slot, config, machine, prepared }: VirtioDescription, host: BackendHost): Backend {
  switch (config.kind) {
    case 'virtio-input': return new InputBackend(host);
    case 'virtio-9p': return new NinepBackend(host, { folder: config.folder, readonly: config.readonly });
    case 'virtio-net': return new NetBackend(host, config, prepared as NetPrepared);
    case 'virtio-blk': return makeBlkBackend(config, machine.id, slot, host);
    case 'virtio-rng': return new RngBackend();
    default: throw new Error(`there is no backend of ${config.kind}`);
  }
}
