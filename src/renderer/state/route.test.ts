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
    { page: 'machine', id: 'try-linux', tab: 'devices' },
    { page: 'give', id: 'try-linux', step: 'choose', groups: [] },
    { page: 'give', id: 'try-linux', step: 'choose', groups: ['14'] },
    { page: 'give', id: 'a b/c', step: 'review', groups: ['14', '0000:03:00'] },
  ];
  for (const route of routes) assert.deepEqual(parseRoute(hashOf(route)), route);
});

test('an unknown address is the library, an unknown tab the screen', () => {
  assert.deepEqual(parseRoute(''), { page: 'machines' });
  assert.deepEqual(parseRoute('#/machine/'), { page: 'machines' });
  assert.deepEqual(parseRoute('#/%E0%A4%A'), { page: 'machines' });
  assert.deepEqual(parseRoute('#/give/'), { page: 'machines' });
  assert.deepEqual(parseRoute('#/give/x/review'), { page: 'give', id: 'x', step: 'choose', groups: [] });
  assert.deepEqual(parseRoute('#/give/x/review/14%2C14%2C'), { page: 'give', id: 'x', step: 'review', groups: ['14'] });
  assert.deepEqual(parseRoute('#/machine/x/graphs'), { page: 'machine', id: 'x', tab: 'screen' });
});
