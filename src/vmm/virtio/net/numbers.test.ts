import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cValues } from '../../testing/c-values.ts';
import * as numbers from './numbers.ts';

/** Not in every distribution's headers yet; from virtio 1.3 §5.1.3. */
const LATER = { VIRTIO_NET_F_GUEST_USO4: 54, VIRTIO_NET_F_GUEST_USO6: 55, VIRTIO_NET_F_HOST_USO: 56 };
const OFFSETS: Record<string, string> = {
  CONFIG_MAC: 'offsetof(struct virtio_net_config, mac)', CONFIG_STATUS: 'offsetof(struct virtio_net_config, status)',
  CONFIG_MAX_PAIRS: 'offsetof(struct virtio_net_config, max_virtqueue_pairs)', CONFIG_MTU: 'offsetof(struct virtio_net_config, mtu)',
  CONFIG_BYTES: 'offsetof(struct virtio_net_config, speed)',
};

test('numbers of the card are those of linux/virtio_net.h', () => {
  const known = Object.fromEntries(Object.entries(numbers).filter(([name]) => !(name in LATER)));
  const values = cValues(['stddef.h', 'linux/virtio_net.h'], Object.fromEntries(Object.keys(known).map((name) => [name, OFFSETS[name] ?? name])));
  assert.deepEqual(known, values);
  for (const [name, value] of Object.entries(LATER)) assert.equal((numbers as Record<string, number>)[name], value);
});
