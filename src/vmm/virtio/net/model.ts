// The network card (virtio 1.3 §5.1): a pair of queues for each of its backend's, receiving and sending, then the control queue.
import type { VirtioConfig } from '../../../shared/machine-config.ts';
import { derivedMac, givenMac } from '../../net/mac.ts';
import { TYPE_NET } from '../constants.ts';
import type { VirtioModel } from '../model.ts';
import * as n from './numbers.ts';

export type NetConfig = Extract<VirtioConfig, { kind: 'virtio-net' }>;

/** Linux takes a descriptor or more for each frame that it sends, and lends a buffer of a page or less for each to come. */
const QUEUE_SIZE = 1024;
const CONTROL_SIZE = 64;
const CLASS_CODE = 0x02_00_00;

export function pairsOf({ backend }: NetConfig): number {
  return backend.kind === 'tap' ? backend.queues : 1;
}

/** The features that the backend adds to these are its own: see offeredFeatures in backend.ts. */
export function netModel(netConfig: NetConfig, machine: string, slot: number): VirtioModel {
  const pairs = pairsOf(netConfig);
  const config = new Uint8Array(n.CONFIG_BYTES);
  config.set(netConfig.mac === undefined ? derivedMac(machine, slot) : givenMac(netConfig.mac), n.CONFIG_MAC);
  new DataView(config.buffer).setUint16(n.CONFIG_MAX_PAIRS, pairs, true);
  return {
    type: TYPE_NET, name: 'virtio-net', classCode: CLASS_CODE, queues: [...Array.from({ length: 2 * pairs }, () => QUEUE_SIZE), CONTROL_SIZE], config,
    features: [
      n.VIRTIO_NET_F_MAC, n.VIRTIO_NET_F_STATUS, n.VIRTIO_NET_F_MRG_RXBUF, n.VIRTIO_NET_F_CTRL_VQ, n.VIRTIO_NET_F_CTRL_RX, n.VIRTIO_NET_F_CTRL_RX_EXTRA,
      n.VIRTIO_NET_F_CTRL_MAC_ADDR, n.VIRTIO_NET_F_CSUM, n.VIRTIO_NET_F_GUEST_CSUM, ...(pairs > 1 ? [n.VIRTIO_NET_F_MQ] : []),
    ],
  };
}
