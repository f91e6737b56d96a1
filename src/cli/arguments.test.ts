import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { VitrineError } from '../shared/errors.ts';
import { memorySize, parseCommandLine } from './arguments.ts';
import { EscapeReader } from './console.ts';
import { exitCodeAfter } from './exit-codes.ts';
import { HELP } from './help.ts';

const MiB = 2 ** 20;
const parse = (line: string) => parseCommandLine(line.split(' ').filter(Boolean), '/here');
const refused = (line: string, why: RegExp) => assert.throws(() => parse(line), (e) => e instanceof VitrineError && e.problem.code === 'usage' && why.test(e.message), line);

test('run: defaults, and everything given', () => {
  assert.deepEqual(parse('run --kernel k'), {
    command: 'run', terminal: 'serial', backend: undefined,
    machine: {
      name: 'k (vitrine run)', memory: 512 * MiB, cpus: 1, boot: { kernel: '/here/k', initrd: undefined, append: '' }, display: { kind: 'none' }, devices: [], onReset: 'stop', testDevices: true, exitOnHalt: false,
    },
  });
  const all = parseCommandLine(['run', '--kernel=/k', '--initrd', 'i', '--append', 'console=ttyS0 quiet', '--memory', '2G', '--cpus', '32', '--serial', 'none', '--display', 'canvas', '--exit-on-halt', '--lab'], '/here');
  assert.ok(all.command === 'run' && all.terminal === 'none' && all.backend === 'lab');
  assert.deepEqual(all.machine.boot, { kernel: '/k', initrd: '/here/i', append: 'console=ttyS0 quiet' });
  assert.ok(all.machine.memory === 2048 * MiB && all.machine.cpus === 32 && all.machine.display?.kind === 'canvas' && all.machine.exitOnHalt === true);
});

test('a virtio console on the terminal brings its device, and takes the place of the serial port', () => {
  const own = parse('run --kernel k --console stdio');
  assert.ok(own.command === 'run' && own.terminal === 'console');
  assert.deepEqual(own.machine.devices, [{ kind: 'virtio-console' }]);
  const two = parse('run --kernel k --console stdio --serial none --device virtio-console,ports=3');
  assert.ok(two.command === 'run' && two.terminal === 'console' && two.machine.devices?.length === 1);
  const none = parse('run --kernel k --console none');
  assert.ok(none.command === 'run' && none.terminal === 'serial');
  refused('run --kernel k --console stdio --serial stdio', /one of them/);
  refused('run --kernel k --console hvc0', /--console is stdio or none/);
});

test('a balloon shows what a guest has, or says what it shall have', () => {
  assert.deepEqual(parse('balloon m'), { command: 'balloon', name: 'm' });
  assert.deepEqual(parse('balloon m 1.5G'), { command: 'balloon', name: 'm', bytes: 1536 * MiB });
  refused('balloon', /machine's name is missing/);
  refused('balloon m 1.5', /./);
});

test('at most one display backend, however two are asked for', () => {
  refused('run --kernel k --display canvas --display none', /at most one display backend/);
  refused('run --kernel k --display canvas --display canvas', /at most one display backend/);
  refused('run --kernel k --display canvas,none', /at most one display backend/);
  refused('run --kernel k --display vnc', /canvas or none/);
});

test('what makes no sense is refused with words', () => {
  refused('run', /--kernel FILE is missing/);
  refused('run --kernel', /kernel/);
  refused('run --kernel=', /name is empty/);
  refused('run --kernel k --kernel l', /--kernel is given twice/);
  refused('run --kernel k extra', /one word too many/);
  refused('run --kernel k --sound yes', /sound/);
  refused('run --kernel k --serial file', /stdio or none/);
  refused('run --kernel k --kvm --lab', /one place/);
  refused('frobnicate', /no such command/);
  refused('toString', /no such command/);
  refused('start m --revert soon', /seconds/);
  refused('start m --revert 0', /seconds/);
  refused('start', /name is missing/);
  refused('pause', /name is missing/);
  refused('screenshot x', /missing/);
  refused('screenshot x y z', /one word too many/);
  refused('serve --port 70000', /0 to 65535/);
  refused('serve --port -1', /port/);
  refused('stop x --timeout soon', /whole number/);
  refused('list x', /one word too many/);
  refused('doctor --report x', /belongs to --selftest/);
  refused('help frobnicate', /no such command/);
});

test('silly numbers of CPUs', () => {
  for (const silly of ['0', '-1', '33', '1.5', 'two', '1e1', '99999999999999999999', '0x2', '']) {
    assert.throws(() => parseCommandLine(['run', '--kernel', 'k', `--cpus=${silly}`], '/'), (e) => e instanceof VitrineError && e.problem.code === 'usage', silly);
  }
});

test('devices: kinds, options, and what they cannot be', () => {
  const devices = (words: string) => {
    const request = parse(`run --kernel k ${words}`);
    assert.ok(request.command === 'run');
    return request.machine.devices;
  };
  assert.deepEqual(devices('--device pci-test --device pci-test,slot=5,functions=8,window=1M,dirty-log,shared-msix'), [
    { kind: 'pci-test' },
    { kind: 'pci-test', slot: 5, functions: 8, window: MiB, dirtyLog: true, sharedMsix: true },
  ]);
  const refused: [string, RegExp][] = [
    ['gpu', /no PCI device of the kind "gpu"/], ['pci-test,slot=2', /the display's/], ['pci-test,slot=31', /1 to 30/], ['pci-test,functions=9', /at most 8/], ['pci-test,window=3M', /power of two/],
    ['pci-test,slot=a', /is no number/], ['pci-test,slot=3,slot=4', /twice/], ['pci-test,constructor', /no option/], ['pci-test,dirty-log=1', /no option/], ['', /no PCI device/],
  ];
  for (const [words, why] of refused) assert.throws(() => parseCommandLine(['run', '--kernel', 'k', '--device', words], '/here'), (e) => e instanceof VitrineError && e.problem.code === 'usage' && why.test(e.message), words);
});

test('devices of a running machine', () => {
  assert.deepEqual(parse('device list m --json'), { command: 'device', action: 'list', name: 'm', json: true });
  assert.deepEqual(parse('device add m pci-test,functions=2'), { command: 'device', action: 'add', name: 'm', devices: [{ kind: 'pci-test', functions: 2 }], keep: false });
  assert.deepEqual(parse('device add m --disk d.img --cdrom c.iso virtio-input,form=tablet --keep'), {
    command: 'device', action: 'add', name: 'm', keep: true,
    devices: [{ kind: 'virtio-input', form: 'tablet' }, { kind: 'virtio-blk', file: '/here/d.img' }, { kind: 'virtio-scsi', drives: [{ kind: 'cdrom', file: '/here/c.iso' }] }],
  });
  assert.deepEqual(parse('device remove m 5'), { command: 'device', action: 'remove', name: 'm', slot: 5, force: false, seconds: 30 });
  assert.deepEqual(parse('device remove m 5 --force --timeout 2'), { command: 'device', action: 'remove', name: 'm', slot: 5, force: true, seconds: 2 });
  refused('device', /list, add or remove is missing/);
  refused('device swap m', /"swap" is not/);
  refused('device add m', /the device is missing/);
  refused('device remove m 32', /from 0 to 31/);
  refused('device remove m', /or the slot is missing/);
});

const devicesOf = (...words: string[]) => {
  const request = parseCommandLine(['run', '--kernel', 'k', ...words], '/here');
  assert.ok(request.command === 'run');
  return request.machine.devices;
};
const refusedDevice = (words: string[], why: RegExp) => assert.throws(() => devicesOf(...words), (e) => e instanceof VitrineError && e.problem.code === 'usage' && why.test(e.message), words.join(' '));

test('disks, CDs, networks and folders', () => {
  assert.deepEqual(devicesOf('--disk', 'a.img', '--disk', '/b,,c.qcow2,format=qcow2,readonly,cache=none,serial=S-1,queues=4,on-error=pause,slot=7'), [
    { kind: 'virtio-blk', file: '/here/a.img' },
    { kind: 'virtio-blk', file: '/b,c.qcow2', format: 'qcow2', readonly: true, cache: 'none', serial: 'S-1', queues: 4, onError: 'pause', slot: 7 },
  ]);
  assert.deepEqual(devicesOf('--cdrom', 'a,b.iso', '--cdrom', 'none'), [{ kind: 'virtio-scsi', drives: [{ kind: 'cdrom', file: '/here/a,b.iso' }, { kind: 'cdrom', file: null }] }]);
  assert.deepEqual(devicesOf('--net', 'user', '--net', 'user,forward=tcp:2222:22,forward=udp:[::1]:53:5353,forward=TCP:0.0.0.0:80:8080,mac=52:54:00:AB:cd:EF,link=down', '--net', 'tap=vnet0,queues=2', '--net', 'none,slot=9'), [
    { kind: 'virtio-net', backend: { kind: 'user', forwards: [] } },
    {
      kind: 'virtio-net', mac: '52:54:00:ab:cd:ef', linkUp: false,
      backend: { kind: 'user', forwards: [{ protocol: 'tcp', host: 2222, guest: 22 }, { protocol: 'udp', address: '::1', host: 53, guest: 5353 }, { protocol: 'tcp', address: '0.0.0.0', host: 80, guest: 8080 }] },
    },
    { kind: 'virtio-net', backend: { kind: 'tap', name: 'vnet0', queues: 2 } },
    { kind: 'virtio-net', backend: { kind: 'none' }, slot: 9 },
  ]);
  assert.deepEqual(devicesOf('--share', 'src=../x,readonly', '--share', 'a=/b=c'), [
    { kind: 'virtio-9p', tag: 'src', folder: '/x', readonly: true },
    { kind: 'virtio-9p', tag: 'a', folder: '/b=c' },
  ]);
  assert.deepEqual(devicesOf('--device', 'virtio-console,ports=3', '--device', 'virtio-vsock,cid=42,slot=8', '--device', 'virtio-rng,rings=packed'), [
    { kind: 'virtio-console', ports: 3 }, { kind: 'virtio-vsock', cid: 42, slot: 8 }, { kind: 'virtio-rng', rings: 'packed' },
  ]);
});

test('devices that make no sense, and two that cannot be together', () => {
  const wrong: [string[], RegExp][] = [
    [['--disk', ''], /name is empty/], [['--disk', 'a,readonyl'], /"readonyl" is no option of it: there are format=…, readonly/], [['--disk', 'a,format=vmdk'], /raw or qcow2/],
    [['--disk', 'a,cache=fast'], /writeback, none or unsafe/], [['--disk', 'a,readonly,readonly'], /given twice/], [['--disk', 'a,serial=with space'], /1 to 20 letters/], [['--disk', 'a,queues=99'], /at most 16/],
    [['--disk', 'a,mac=1'], /no option/], [['--disk', 'a,slot=two'], /no number/], [['--disk', 'a,slot=2'], /the display's/], [['--disk', 'a', '--disk', 'a'], /in this machine twice/],
    [['--cdrom', ''], /name is empty/], [['--net', 'bridge'], /user, tap=NAME and none/], [['--net', 'user,forward=2222:22'], /forwards nothing/], [['--net', 'user,forward=tcp:0:22'], /1 to 65535/],
    [['--net', 'user,forward=tcp:2222:70000'], /1 to 65535/], [['--net', 'user,forward=tcp:2222:22,forward=tcp:2222:23'], /tcp 127\.0\.0\.1:2222 is forwarded twice/],
    [['--net', 'user,forward=tcp:2222:22', '--net', 'user,forward=tcp:0.0.0.0:2222:22'], /forwarded twice/], [['--net', 'user,forward=tcp:2222:22,forward=tcp:127.0.0.2:2222:22'], /once, whatever the address/],
    [['--net', 'tap='], /1 to 15/], [['--net', 'tap=a,queues=9'], /at most 8/],
    [['--net', 'user,queues=2'], /no option/], [['--net', 'user,mac=01:00:5e:00:00:01'], /a group's/], [['--net', 'user,link=maybe'], /up or down/], [['--net', 'tap=a', '--net', 'tap=a'], /use the interface a/],
    [['--share', 'src'], /TAG=FOLDER/], [['--share', '=x'], /TAG=FOLDER/], [['--share', 'src='], /TAG=FOLDER/], [['--share', 'a b=/x'], /without spaces/], [['--share', 'a=/x', '--share', 'a=/y'], /the tag "a"/],
    [['--device', 'virtio-blk,file=x'], /said by --disk/], [['--device', 'virtio-rng,ports=2'], /no option/], [['--device', 'virtio-input'], /keyboard or a tablet|form/], [['--device', 'virtio-vsock,cid=2'], /from 3 on/],
    [['--device', 'virtio-balloon', '--device', 'virtio-balloon'], /at most one balloon/],
  ];
  for (const [words, why] of wrong) refusedDevice(words, why);
  // The same image twice, and the same port at two addresses by two cards: that is fine.
  assert.equal(devicesOf('--disk', 'a,readonly', '--cdrom', 'a', '--net', 'user,forward=tcp:127.0.0.1:80:80,forward=udp:80:80', '--net', 'user,forward=tcp:127.0.0.2:80:80', '--net', 'user,forward=tcp:[::]:80:80')?.length, 5);
});

test('create, change', () => {
  const created = parse('create Box --kernel k --disk d');
  assert.ok(created.command === 'create');
  assert.deepEqual(created.machine, { name: 'Box', memory: 512 * MiB, cpus: 1, boot: { kernel: '/here/k', initrd: undefined, append: '' }, display: { kind: 'canvas' }, devices: [{ kind: 'virtio-blk', file: '/here/d' }] });
  refused('create --kernel k', /name is missing/);
  refused('create a b --kernel k', /one word too many/);
  refused('create a', /--kernel FILE is missing/);
  assert.deepEqual(parse('change m cd x.iso'), { command: 'change', name: 'm', change: { kind: 'medium', drive: 0, file: '/here/x.iso' } });
  assert.deepEqual(parse('change m cd --eject --drive 1 --slot 4'), { command: 'change', name: 'm', slot: 4, change: { kind: 'medium', drive: 1, file: null } });
  assert.deepEqual(parse('change m link down'), { command: 'change', name: 'm', change: { kind: 'link', up: false } });
  refused('change m', /or cd or link is missing/);
  refused('change m cd', /file or --eject is missing/);
  refused('change m cd x --eject', /not both/);
  refused('change m link', /up or down/);
  refused('change m link up --drive 1', /belong to cd/);
  refused('change m fan up', /"fan" is not/);
  refused('change m cd x --slot 32', /0 to 31/);
});

test('disk images', () => {
  assert.deepEqual(parse('disk create a.qcow2 20G'), { command: 'disk', wish: { action: 'create', disk: { file: '/here/a.qcow2', format: 'qcow2', bytes: 20 * 1024 * MiB } } });
  assert.deepEqual(parse('disk create /a 1.5K --format raw'), { command: 'disk', wish: { action: 'create', disk: { file: '/a', format: 'raw', bytes: 1536 } } });
  assert.deepEqual(parse('disk create a --backing b'), { command: 'disk', wish: { action: 'create', disk: { file: '/here/a', format: 'qcow2', backing: { file: '/here/b' } } } });
  assert.deepEqual(parse('disk resize a +1G'), { command: 'disk', wish: { action: 'resize', file: '/here/a', bytes: 1024 * MiB, relative: true, shrink: false } });
  assert.deepEqual(parse('disk resize a 1M --shrink --format raw'), { command: 'disk', wish: { action: 'resize', file: '/here/a', bytes: MiB, relative: false, shrink: true, format: 'raw' } });
  assert.deepEqual(parse('disk info a --json'), { command: 'disk', wish: { action: 'info', file: '/here/a', json: true } });
  refused('disk', /create, resize or info is missing/);
  refused('disk eat a', /"eat" is not/);
  refused('disk create a', /the size is missing/);
  refused('disk create a 0', /at least 512/);
  refused('disk create a much', /such as 20G/);
  refused('disk create a -5G', /5/);
  refused('disk create a 1G --format vdi', /qcow2/);
  refused('disk create a --backing b --format raw', /only a qcow2/);
  refused('disk resize a', /or the size is missing/);
  refused('disk info', /name is missing/);
});

test('memory: sizes as people write them, and silly ones', () => {
  assert.equal(memorySize('512M'), 512 * MiB);
  assert.equal(memorySize('512'), 512 * MiB);
  assert.equal(memorySize('2g'), 2048 * MiB);
  assert.equal(memorySize('1.5G'), 1536 * MiB);
  assert.equal(memorySize('65536K'), 64 * MiB);
  assert.equal(memorySize('1T'), 1024 * 1024 * MiB);
  assert.equal(memorySize('512MiB'), 512 * MiB);
  for (const silly of ['', '0', '1M', '-512M', '2T', '99999999999G', '512X', 'M', '1e9', '0x200M', '1000K', '512 512', 'NaN', 'Infinity']) {
    assert.throws(() => memorySize(silly), (e) => e instanceof VitrineError && e.problem.code === 'usage', silly);
  }
  fc.assert(fc.property(fc.string(), (text) => {
    try {
      assert.equal(memorySize(text) % MiB, 0);
    } catch (thrown) {
      assert.ok(thrown instanceof VitrineError);
    }
  }));
});

test('any words are understood or refused, never anything else', () => {
  const word = fc.oneof(fc.constantFrom(...Object.keys(HELP), '--kernel', '--force', '--json', '--', '-', '--help', '--cpus=2', '--port'), fc.string());
  fc.assert(fc.property(fc.array(word, { maxLength: 6 }), (words) => {
    try {
      assert.ok(parseCommandLine(words, '/').command.length > 0);
    } catch (thrown) {
      assert.ok(thrown instanceof VitrineError && thrown.problem.code === 'usage', String(thrown));
    }
  }), { numRuns: 2000 });
});

test('devices: all, one, for a machine', () => {
  assert.deepEqual(parse('devices'), { command: 'devices', address: undefined, machine: undefined, json: false, all: false, lab: false });
  assert.deepEqual(parse('devices 03:00.0 --json --machine x --all --lab'), { command: 'devices', address: '03:00.0', machine: 'x', json: true, all: true, lab: true });
  refused('devices a b', /one word too many/);
  assert.throws(() => parseCommandLine(['devices', ''], '/'), /empty/);
});

test('bind, release, helper: addresses as people write them, in the kernel\'s spelling', () => {
  assert.deepEqual(parse('bind 03:00.0 0000:0A:1f.7 0000:03:00.0'), { command: 'bind', addresses: ['0000:03:00.0', '0000:0a:1f.7'] });
  assert.deepEqual(parse('release'), { command: 'release', addresses: [] });
  assert.deepEqual(parse('release 3a:00.1 03:00.0 3a:00.1'), { command: 'release', addresses: ['0000:3a:00.1', '0000:03:00.0'] });
  assert.deepEqual(parse('helper --json'), { command: 'helper', what: 'show', json: true });
  assert.deepEqual(parse('helper install'), { command: 'helper', what: 'install', json: false });
  assert.deepEqual(parse('helper remove'), { command: 'helper', what: 'remove', json: false });
  refused('helper update', /neither install nor remove/);
  refused('helper remove --json', /does not go with remove/);
  refused('bind', /address is missing/);
  refused('release 03:00.0 c', /looks like 0000:03:00\.0/);
  for (const address of ['03:00', '03:00.8', '03:20.0', '../03:00.0', '0000:03:00.0/..', '10000:03:00.0']) refused(`bind ${address}`, /looks like/);
});

test('plan: a machine, devices, whether they are kept', () => {
  assert.deepEqual(parse('plan m'), { command: 'plan', machine: 'm', addresses: [], mode: 'start', json: false });
  assert.deepEqual(parse('plan m 03:00.0 0000:03:00.0 03:00.1 --keep --json'), { command: 'plan', machine: 'm', addresses: ['0000:03:00.0', '0000:03:00.1'], mode: 'kept', json: true });
  refused('plan', /the machine's name is missing/);
  refused('plan m card', /looks like/);
  assert.throws(() => parseCommandLine(['plan', ''], '/'), /empty/);
});

test('help is found wherever it is asked for', () => {
  assert.deepEqual(parse(''), { command: 'help', topic: '' });
  assert.deepEqual(parse('--help'), { command: 'help', topic: '' });
  assert.deepEqual(parse('help run'), { command: 'help', topic: 'run' });
  assert.deepEqual(parse('run --help'), { command: 'help', topic: 'run' });
  assert.deepEqual(parse('--version'), { command: 'version' });
  assert.deepEqual(parse('stop x y --force'), { command: 'stop', names: ['x', 'y'], force: true, seconds: 60 });
});

test('exit codes after a machine\'s life', () => {
  assert.equal(exitCodeAfter({ endedAt: 0, how: 'powered-off' }), 0);
  assert.equal(exitCodeAfter({ endedAt: 0, how: 'halted' }), 0);
  assert.equal(exitCodeAfter({ endedAt: 0, how: 'debug-exit', exitCode: 33 }), 33);
  assert.equal(exitCodeAfter({ endedAt: 0, how: 'reset' }), 5);
  assert.equal(exitCodeAfter({ endedAt: 0, how: 'forced' }), 6);
  assert.equal(exitCodeAfter({ endedAt: 0, how: 'failed' }), 1);
  assert.equal(exitCodeAfter({ endedAt: 0, how: 'killed' }), 1);
});

test('Ctrl+A X ends, twice sends one, and anything else goes to the guest', () => {
  const keys = new EscapeReader();
  const read = (text: string) => {
    const { bytes, end } = keys.read(Buffer.from(text, 'latin1'));
    return [Buffer.from(bytes).toString('latin1'), end];
  };
  assert.deepEqual(read('ls\r\x03'), ['ls\r\x03', false]);
  assert.deepEqual(read('\x01\x01'), ['\x01', false]);
  assert.deepEqual(read('a\x01'), ['a', false]);
  assert.deepEqual(read('bc'), ['\x01bc', false]);
  assert.deepEqual(read('d\x01xe'), ['d', true]);
});

test('devices of the host: addresses, ROMs, slots, and what they cannot be', () => {
  const devices = (...words: string[]) => {
    const request = parseCommandLine(['run', '--kernel', 'k', ...words], '/here');
    assert.ok(request.command === 'run');
    return request.machine.devices;
  };
  assert.deepEqual(devices('--vfio-pci', '0000:03:00.0', '--device', 'pci-test', '--vfio-pci', '0001:a0:1f.7,slot=9,rom=my,rom.bin', '--vfio-pci', '0000:03:00.1,rom=off,slot=5', '--vfio-pci', '0000:03:00.2,rom=/r'), [
    { kind: 'pci-test' },
    { kind: 'vfio-pci', address: '0000:03:00.0' },
    { kind: 'vfio-pci', address: '0001:a0:1f.7', slot: 9, rom: { file: '/here/my,rom.bin' } },
    { kind: 'vfio-pci', address: '0000:03:00.1', slot: 5, rom: 'off' },
    { kind: 'vfio-pci', address: '0000:03:00.2', rom: { file: '/r' } },
  ]);
  assert.deepEqual(devices('--device', 'vfio-pci,0000:03:00.0,rom=off'), [{ kind: 'vfio-pci', address: '0000:03:00.0', rom: 'off' }]);
  assert.throws(() => devices('--device', 'vfio-pci,0000:03:00.0,rim=off'), /--device vfio-pci,0000:03:00.0,rim=off/);
  const refused: [string, RegExp][] = [
    ['', /looks like 0000:03:00.0/], ['03:00.0', /looks like/], ['0000:03:00.8', /looks like/], ['0000:03:20.0', /looks like/], ['0000:03:00.0,rom=', /no option/], ['0000:03:00.0,rom', /no option/], ['0000:03:00.0,slot=x', /is no number/],
    ['0000:03:00.0,slot=3,slot=4', /twice/], ['0000:03:00.0,rom=off,rom=a', /twice/], ['0000:03:00.0,slot=2', /the display's/],
  ];
  for (const [words, why] of refused) assert.throws(() => devices('--vfio-pci', words), (e) => e instanceof VitrineError && e.problem.code === 'usage' && why.test(e.message), words);
});
