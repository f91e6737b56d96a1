import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { parseMemory } from './options.ts';
import type { LabDevice } from './options.ts';
import { LAB_CPU, qemuArguments, writeInitConfig } from './qemu.ts';
import type { QemuPlan } from './qemu.ts';

const kernel = { release: 'r', bzImage: '/k/bz', config: '/k/config', vmlinux: '/k/vmlinux', modules: '/k/m', initramfs: '/k/i' };
const plan: QemuPlan = { kernel, cache: '/cache', folder: '/run', iommu: 'none', devices: [], smp: 2, memory: 2 ** 31, cpu: LAB_CPU, shares: [] };

describe("QEMU's command line", () => {
  it('gives every device an address of its own', () => {
    const devices: LabDevice[] = ['e1000e', 'nvme', 'edu', 'xhci', 'bochs', 'virtio-net', 'ahci', 'e1000-pair', 'e1000e-twin', 'nvme-twin'];
    const shares = ['/a', '/b'].map((folder) => ({ path: folder, writable: true, mode: 'coherent' as const }));
    const addresses = qemuArguments({ ...plan, devices, shares }).flatMap((word) => /addr=(\w+)(?![.\w])/.exec(word)?.[1] ?? []).map(Number);
    assert.equal(new Set(addresses).size, addresses.length);
    assert.deepEqual(addresses.filter((address) => address < 0xf).sort((a, b) => a - b), [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
  });

  it('shares the host read-only, and escapes paths', () => {
    const words = qemuArguments({ ...plan, shares: [{ path: '/data, mine', writable: true, mode: 'coherent' }] });
    assert.ok(words.includes('local,id=host,path=/,security_model=none,multidevs=remap,readonly=on'));
    assert.ok(words.includes('local,id=share0,path=/data,, mine,security_model=none,multidevs=remap'));
  });

  it('asks for the IOMMU in both places', () => {
    const words = qemuArguments({ ...plan, iommu: 'amd' });
    assert.ok(words.includes('amd-iommu,intremap=on'));
    assert.match(words[words.indexOf('-append') + 1]!, / amd_iommu=on$/);
  });
});

describe("the lab's configuration", () => {
  it('survives the shell, whatever is in it, and is private', () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-qemu-test-'));
    try {
      const agent = { token: 't', port: 1, uid: 7, gid: 8, user: "o'neil", home: '/home/a b $HOME `id`', idleMilliseconds: 1, firstMilliseconds: 1 };
      writeInitConfig(folder, { agent, program: { entry: '/e', files: { 'agent.mjs': '1' } }, node: '/n', nodeEnv: {}, iommu: 'none', devices: [], driversLater: false, shares: [{ path: '/x y', writable: false, mode: 'cached' }] });
      const said = execFileSync('sh', ['-c', '. "$0/env"; printf "%s|%s" "$LAB_USER" "$LAB_HOME"', folder]).toString();
      assert.equal(said, "o'neil|/home/a b $HOME `id`");
      assert.equal(fs.readFileSync(path.join(folder, 'shares'), 'utf8'), 'share0\tro\tloose\t/x y\n');
      for (const file of fs.readdirSync(folder)) assert.equal(fs.statSync(path.join(folder, file)).mode & 0o077, 0, file);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
});

describe('the drivers of devices to pass through', () => {
  it('are loaded while the lab boots, or later', () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-qemu-test-'));
    const agent = { token: 't', port: 1, uid: 7, gid: 8, user: 'u', home: '/h', idleMilliseconds: 1, firstMilliseconds: 1 };
    const loaded = (iommu: 'none' | 'intel', driversLater: boolean) => {
      writeInitConfig(folder, { agent, program: { entry: '/e', files: {} }, node: '/n', nodeEnv: {}, iommu, devices: iommu === 'none' ? [] : ['edu'], driversLater, shares: [] });
      return execFileSync('sh', ['-c', '. "$0/env"; printf "%s|%s" "$LAB_MODPROBE" "$LAB_COLDPLUG"', folder]).toString();
    };
    try {
      assert.deepEqual([loaded('none', false), loaded('intel', false), loaded('intel', true)], ['|', 'vfio-pci vfio_iommu_type1|1', '|']);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
});

describe('amounts of memory', () => {
  it('are read with their unit, or refused', () => {
    assert.equal(parseMemory('512M'), 2 ** 29);
    assert.equal(parseMemory('8g'), 2 ** 33);
    for (const text of ['', '8', 'G', '-1G', '1.5G', '8GB']) assert.throws(() => parseMemory(text), RangeError);
  });
});
