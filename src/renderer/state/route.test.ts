import { test } from 'node:test';
import assert from 'node:assert/strict';
import { hashOf, parseRoute } from './route.ts';
import type { Route } from './route.ts';

test('a route survives its address', () => {
  const routes: Route[] = [
    { page: 'machines' },
    { page: 'computer' },
    { page: 'devices' },
    { page: 'devices', address: '0000:03:00.0' },
    { page: 'machine', id: 'try-linux', tab: 'screen' },
    { page: 'machine', id: 'a b/c', tab: 'console' },
  ];
  for (const route of routes) assert.deepEqual(parseRoute(hashOf(route)), route);
});

test('an unknown address is the library, an unknown tab the screen', () => {
  assert.deepEqual(parseRoute(''), { page: 'machines' });
  assert.deepEqual(parseRoute('#/machine/'), { page: 'machines' });
  assert.deepEqual(parseRoute('#/%E0%A4%A'), { page: 'machines' });
  assert.deepEqual(parseRoute('#/machine/x/graphs'), { page: 'machine', id: 'x', tab: 'screen' });
});
