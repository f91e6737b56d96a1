import { test } from 'node:test';
import assert from 'node:assert/strict';
import * as v from 'valibot';
import { newMachine } from '../../../shared/protocol/front.ts';
import { machineConfig } from '../../../shared/machine-config.ts';
import { check, emptyForm, formOf, NO_SCREEN, parseMemory, SCREEN_SIZES, screenChoices, toNewMachine } from './machine-form.ts';

const MiB = 2 ** 20;
const good = { ...emptyForm, name: 'Lab', kernel: '/boot/vmlinuz' };

test('sizes as people write them', () => {
  assert.equal(parseMemory('512'), 512 * MiB);
  assert.equal(parseMemory('512MiB'), 512 * MiB);
  assert.equal(parseMemory(' 2 G '), 2048 * MiB);
  assert.equal(parseMemory('1,5 GiB'), 1536 * MiB);
  assert.ok(Number.isNaN(parseMemory('much')));
  assert.ok(Number.isNaN(parseMemory('-1')));
  assert.ok(Number.isNaN(parseMemory('')));
});

test('a good form has no errors and describes a machine that the file\'s own schema takes', () => {
  assert.ok(v.is(newMachine, toNewMachine({ ...good, memory: '1,5 GiB', cpus: ' 32 ' })));
  assert.deepEqual(check(good), {});
  assert.deepEqual(toNewMachine({ ...good, initrd: ' /boot/initrd ' }).boot, { kernel: '/boot/vmlinuz', initrd: '/boot/initrd', append: emptyForm.append });
  assert.equal('initrd' in toNewMachine(good).boot, false);
});

test('screens of every size, another of the file, and none, come back as they were chosen', () => {
  const file = (form: typeof good) => v.parse(machineConfig, { version: 1, id: 'lab', ...toNewMachine(form) });
  for (const screen of [...SCREEN_SIZES, '1000x700', NO_SCREEN]) {
    assert.equal(formOf(file({ ...good, screen })).screen, screen);
    assert.ok(screenChoices(screen).some(({ value }) => value === screen));
  }
  assert.equal(screenChoices('1280x800').length, SCREEN_SIZES.length + 1);
  assert.equal(formOf(file({ ...good, onReset: 'stop' })).onReset, 'stop');
});

test('each field says what is wrong with it', () => {
  assert.match(check({ ...good, name: ' ' }).name ?? '', /needs a name/);
  assert.match(check({ ...good, name: 'x'.repeat(201) }).name ?? '', /200/);
  assert.match(check({ ...good, kernel: '' }).kernel ?? '', /needs a kernel/);
  assert.match(check({ ...good, kernel: 'vmlinuz' }).kernel ?? '', /whole path/);
  assert.match(check({ ...good, initrd: 'initrd' }).initrd ?? '', /whole path/);
  assert.match(check({ ...good, memory: '8' }).memory ?? '', /16 MiB/);
  assert.match(check({ ...good, memory: '16.5 MiB' }).memory ?? '', /whole MiB/);
  assert.match(check({ ...good, memory: '2000 TiB' }).memory ?? '', /1 TiB/);
  assert.match(check({ ...good, memory: 'lots' }).memory ?? '', /Such as/);
  assert.match(check({ ...good, cpus: '0' }).cpus ?? '', /From 1/);
  assert.match(check({ ...good, cpus: '33' }).cpus ?? '', /32/);
  assert.match(check({ ...good, cpus: '1.5' }).cpus ?? '', /whole number/);
});
