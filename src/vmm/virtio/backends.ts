// The backend of each kind of virtio device. Read by I/O Workers alone: a vCPU's thread needs none of it.
import type { Backend, BackendHost } from './backend.ts';
import type { VirtioDescription } from './description.ts';
import { BalloonBackend } from './balloon/backend.ts';
import { DropGate } from './balloon/drop-gate.ts';
import { makeBlkBackend } from './blk/backend.ts';
import { ConsoleBackend } from './console/backend.ts';
import { InputBackend } from './input/backend.ts';
import { NinepBackend } from './ninep/backend.ts';
import { NetBackend } from './net/backend.ts';
import type { NetPrepared } from './net/prepared.ts';
import { RngBackend } from './rng/backend.ts';
import { makeScsiBackend } from './scsi/backend.ts';
import { VsockBackend } from './vsock/backend.ts';

/** Throws VitrineError when the host cannot give what the device needs. */
export function makeBackend({ slot, config, machine, prepared }: VirtioDescription, host: BackendHost): Backend {
  switch (config.kind) {
    case 'virtio-input': return new InputBackend(host);
    case 'virtio-9p': return new NinepBackend({ folder: config.folder, readonly: config.readonly });
    case 'virtio-net': return new NetBackend(host, config, prepared as NetPrepared);
    case 'virtio-blk': return makeBlkBackend(config, machine.id, slot, host);
    case 'virtio-scsi': return makeScsiBackend(config, machine.id, slot, host);
    case 'virtio-rng': return new RngBackend();
    case 'virtio-console': return new ConsoleBackend(host, config.ports);
    case 'virtio-balloon': return new BalloonBackend(host, new DropGate(prepared as SharedArrayBuffer));
    case 'virtio-vsock': return new VsockBackend(host, config.cid);
  }
}
