import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import * as v from 'valibot';
import { VitrineError } from '../../shared/errors.ts';
import { deviceConfig } from '../../shared/machine-config.ts';
import { checkDeviceFiles } from './device-files.ts';

test('what a device needs is looked at before the start', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-files-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const library = join(folder, 'machines');
  mkdirSync(library);
  const image = join(folder, 'disk.img');
  const inside = join(library, 'inside.img');
  for (const file of [image, inside]) writeFileSync(file, 'x');
  symlinkSync(image, join(library, 'link.img'));
  const check = (wish: v.InferInput<typeof deviceConfig>, lab = false) => checkDeviceFiles([v.parse(deviceConfig, wish)], { attempted: 'start the machine', ...(lab ? { lab: library } : {}) });
  const fails = (code: string, wish: v.InferInput<typeof deviceConfig>, lab = false) => assert.throws(() => check(wish, lab), (e) => e instanceof VitrineError && e.problem.code === code && e.problem.on !== '', `${code} ${JSON.stringify(wish)}`);
  const disk = (file: string, readonly = false) => ({ kind: 'virtio-blk', file, readonly } as const);
  const cdrom = (file: string | null): v.InferInput<typeof deviceConfig> => ({ kind: 'virtio-scsi', drives: [{ kind: 'cdrom', file }] });

  check(disk(image));
  check(cdrom(null));
  check(cdrom(image));
  check({ kind: 'virtio-9p', tag: 'a', folder });
  check({ kind: 'virtio-net', backend: { kind: 'tap', name: 'none-such' } });
  fails('disk-missing', disk(join(folder, 'none')));
  fails('disk-missing', disk(join(image, 'under-a-file')));
  fails('disk-not-a-file', disk(folder));
  fails('disk-not-a-file', disk('/dev/null'));
  fails('disk-path', disk('disk.img'));
  fails('medium-missing', cdrom(join(folder, 'none')));
  fails('medium-not-a-file', cdrom(folder));
  fails('folder-missing', { kind: 'virtio-9p', tag: 'a', folder: join(folder, 'none') });
  fails('folder-not-a-folder', { kind: 'virtio-9p', tag: 'a', folder: image });

  // In the lab, what is written outside of the library would be lost.
  fails('disk-not-in-lab', disk(image), true);
  fails('disk-not-in-lab', disk(join(library, 'link.img')), true);
  check(disk(image, true), true);
  check(disk(inside), true);
  check(cdrom(image), true);
  fails('folder-not-in-lab', { kind: 'virtio-9p', tag: 'a', folder }, true);
  check({ kind: 'virtio-9p', tag: 'a', folder, readonly: true }, true);
  fails('tap-not-in-lab', { kind: 'virtio-net', backend: { kind: 'tap', name: 'tap0' } }, true);

  if (process.geteuid!() !== 0) {
    chmodSync(image, 0o400);
    fails('disk-not-writable', disk(image));
    check(disk(image, true));
    chmodSync(image, 0);
    fails('disk-unreadable', disk(image, true));
  }
});
