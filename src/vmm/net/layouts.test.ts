// Every number of tun-ioctls.ts and vnet-header.ts against the kernel's own headers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cValues } from '../testing/c-values.ts';
import * as tun from './tun-ioctls.ts';
import * as header from './vnet-header.ts';

test('ioctl numbers and flags are those of linux/if_tun.h', () => {
  // Older headers do not have USO; its values are fixed by the kernel's interface.
  const { TUN_F_USO4, TUN_F_USO6, ...names } = tun as Record<string, number>;
  assert.deepEqual([TUN_F_USO4, TUN_F_USO6], [0x20, 0x40]);
  const values = cValues(['sys/ioctl.h', 'linux/if.h', 'linux/if_tun.h'], Object.fromEntries(Object.keys(names).map((name) => [name, name === 'IFREQ_BYTES' ? 'sizeof(struct ifreq)' : name])));
  assert.deepEqual(values, { ...names });
});

test('the header before a frame is that of linux/virtio_net.h', () => {
  const values = cValues(['stddef.h', 'linux/virtio_net.h'], {
    HEADER_BYTES: 'sizeof(struct virtio_net_hdr_mrg_rxbuf)', HDR_NUM_BUFFERS: 'offsetof(struct virtio_net_hdr_mrg_rxbuf, num_buffers)',
    HDR_F_NEEDS_CSUM: 'VIRTIO_NET_HDR_F_NEEDS_CSUM', HDR_F_DATA_VALID: 'VIRTIO_NET_HDR_F_DATA_VALID', GSO_NONE: 'VIRTIO_NET_HDR_GSO_NONE',
    GSO_TCPV4: 'VIRTIO_NET_HDR_GSO_TCPV4', GSO_UDP: 'VIRTIO_NET_HDR_GSO_UDP', GSO_TCPV6: 'VIRTIO_NET_HDR_GSO_TCPV6', GSO_ECN: 'VIRTIO_NET_HDR_GSO_ECN',
  });
  for (const [name, value] of Object.entries(values)) assert.equal((header as unknown as Record<string, number>)[name], value, name);
});
