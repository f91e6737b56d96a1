// The model of each kind of virtio device.
import type { VirtioConfig } from '../../shared/machine-config.ts';
import type { VirtioModel } from './model.ts';
import { balloonModel } from './balloon/model.ts';
import { blkModel } from './blk/model.ts';
import { consoleModel } from './console/model.ts';
import { inputModel } from './input/model.ts';
import { ninepModel } from './ninep/model.ts';
import { netModel } from './net/model.ts';
import { rngModel } from './rng/model.ts';
import { scsiModel } from './scsi/model.ts';
import { vsockModel } from './vsock/model.ts';

/** @param machine the machine's id @param slot where the device is: what it has of its own is made from these */
export function virtioModel(config: VirtioConfig, machine: string, slot: number): VirtioModel {
  switch (config.kind) {
    case 'virtio-input': return inputModel(config.form);
    case 'virtio-9p': return ninepModel(config.tag);
    case 'virtio-net': return netModel(config, machine, slot);
    case 'virtio-blk': return blkModel(config);
    case 'virtio-scsi': return scsiModel();
    case 'virtio-rng': return rngModel();
    case 'virtio-console': return consoleModel(config.ports);
    case 'virtio-balloon': return balloonModel();
    case 'virtio-vsock': return vsockModel(config.cid);
  }
}
