import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { checkForwards, complaintsOf, findPasst, mtuFor, parseVersion, passtArguments, portSpec, probeFrames, readHostNetwork, startProblem, type Forward, whySlow } from './passt-program.ts';

const program = { path: '/usr/bin/passt', version: undefined, stderrOption: true };
const routed = { routed: true, nameServers: [], sendRoom: 212_992 };

function inFolder(act: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-passt-'));
  try {
    act(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('the program is looked for in PATH first, and asked how new it is and what it knows', () => {
  inFolder((folder) => {
    const write = (name: string, version: string, help: string): void => {
      mkdirSync(join(folder, name));
      writeFileSync(join(folder, name, 'passt'), `#!/bin/sh\ncase $1 in --version) echo "${version}";; --help) ${help};; esac\n`);
      chmodSync(join(folder, name, 'passt'), 0o755);
    };
    write('old', 'passt unknown version', 'echo "-e, --stderr log there" >&2');
    write('new', 'passt 2025_02_17.a1e48a0', 'echo "-f, --foreground"');
    const of = (...names: string[]): unknown => findPasst({ PATH: names.map((name) => join(folder, name)).join(':') }, [join(folder, 'new')]);
    assert.deepEqual(of('missing', 'old', 'new'), { path: join(folder, 'old/passt'), version: undefined, stderrOption: true });
    assert.deepEqual(of('missing'), { path: join(folder, 'new/passt'), version: 20250217, stderrOption: false });
  });
});

test('that it is missing is said, with how to get it', () => {
  assert.throws(() => findPasst({ PATH: '/nonexistent:relative' }, []), (error) => {
    assert.ok(error instanceof VitrineError);
    assert.equal(error.problem.code, 'passt-missing');
    for (const words of [/apt install passt/, /dnf install passt/, /pacman -S passt/, /zypper install passt/]) assert.match(error.problem.remedy, words);
    return true;
  });
});

test('versions of all distributions are read, and decide how long a frame may be', () => {
  const versions: [string, number | undefined][] = [
    ['passt unknown version\nCopyright', undefined], ['passt 0.0~git20240906.6b38f07-1\nCopyright Red Hat', 20240906], ['passt 2024_07_26.57a21d2', 20240726],
    ['passt 0^20250217.ga1e48a0-1.fc42.x86_64', 20250217], ['passt 20230309', 20230309], ['', undefined],
  ];
  for (const [text, version] of versions) assert.equal(parseVersion(text), version, text);
  assert.deepEqual([undefined, 20230309, 20240725, 20240726, 20250217].map((version) => mtuFor({ version }, 212_992)), [3200, 3200, 3200, 65520, 65520]);
  assert.deepEqual([undefined, 20230309, 20250217].map((version) => mtuFor({ version }, 4 * 2 ** 20)), [65520, 65520, 65520]);
  assert.deepEqual([0, 65_536, 212_992, 425_984, 1_048_576, 4_194_303].map((room) => mtuFor({ version: undefined }, room)), [1500, 1500, 3200, 6528, 9000, 9000]);
  assert.match(whySlow({ version: undefined }, 212_992)!, /MTU of 3200\..*newer passt.*net\.core\.wmem_max=4194304/);
  assert.deepEqual([whySlow({ version: 20240726 }, 0), whySlow({ version: undefined }, 4 * 2 ** 20)], [undefined, undefined]);
});

test('what it is told: only what was asked for, and nothing of the host\'s loopback', () => {
  const forwards: Forward[] = [{ protocol: 'tcp', host: 2222, guest: 22 }, { protocol: 'udp', address: '::1', host: 53, guest: 5353 }, { protocol: 'tcp', address: '0.0.0.0', host: 8080, guest: 80 }];
  assert.deepEqual(passtArguments(program, { socket: 3, forwards, network: routed }), [
    '--foreground', '--quiet', '--stderr', '--fd', '3', '--mtu', '3200', '--no-map-gw', '--tcp-ports', '127.0.0.1/2222:22', '--tcp-ports', '0.0.0.0/8080:80', '--udp-ports', '::1/53:5353',
  ]);
  const bare = passtArguments({ ...program, version: 20250217, stderrOption: false }, { socket: 3, forwards: [], network: { routed: false, nameServers: ['192.0.2.53'], sendRoom: 0 } });
  assert.deepEqual(bare, [
    '--foreground', '--quiet', '--fd', '3', '--mtu', '65520', '--no-map-gw', '--address', '10.0.2.15', '--netmask', '24', '--gateway', '10.0.2.2',
    '--mac-addr', '9a:55:9a:55:9a:55', '--interface', 'lo', '--dns', '192.0.2.53', '--tcp-ports', 'none', '--udp-ports', 'none',
  ]);
});

test('the host\'s network is read from its files', () => {
  inFolder((root) => {
    const write = (path: string, text: string): void => {
      mkdirSync(join(root, path, '..'), { recursive: true });
      writeFileSync(join(root, path), text);
    };
    write('proc/sys/net/core/wmem_max', '212992\n');
    assert.deepEqual(readHostNetwork(root), { routed: false, nameServers: [], sendRoom: 212_992 });
    const heading = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n';
    write('proc/net/route', `${heading}eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n`);
    write('proc/net/ipv6_route', `${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 ${'0'.repeat(32)} ffffffff 00000001 00000000 00200200       lo\n`);
    assert.equal(readHostNetwork(root).routed, false, 'an unreachable route leads nowhere');
    write('proc/net/ipv6_route', `${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n`);
    assert.equal(readHostNetwork(root).routed, true);
    write('proc/net/ipv6_route', '');
    write('proc/net/route', `${heading}eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n`);
    assert.equal(readHostNetwork(root).routed, true);

    write('etc/resolv.conf', 'search example\nnameserver 192.0.2.1\nnameserver 127.0.0.1\n');
    assert.deepEqual(readHostNetwork(root).nameServers, [], 'passt finds these by itself');
    write('etc/resolv.conf', '# resolved\nnameserver 127.0.0.53\noptions edns0\n');
    write('run/systemd/resolve/resolv.conf', 'nameserver 192.0.2.7\nnameserver fe80::1%2\nnameserver 2001:db8::7\n');
    assert.deepEqual(readHostNetwork(root).nameServers, ['192.0.2.7', '2001:db8::7']);
  });
});

test('a port of the host leads to one place', () => {
  checkForwards([{ protocol: 'tcp', host: 1, guest: 1 }, { protocol: 'udp', host: 1, guest: 1 }, { protocol: 'tcp', host: 2, guest: 1 }]);
  assert.throws(() => checkForwards([{ protocol: 'tcp', host: 1, guest: 1 }, { protocol: 'tcp', address: '127.0.0.2', host: 1, guest: 2 }]), (error) => error instanceof VitrineError && error.problem.code === 'forward-twice' && error.problem.on === '127.0.0.2/1:2');
});

test('its complaints become problems', async () => {
  const noise = 'Failed to send 31 bytes to syslog\nDon\'t run as root. Changing to nobody...\n';
  assert.equal(complaintsOf(`${noise} one \n\ntwo\n`), 'one; two');
  const forward: Forward = { protocol: 'tcp', host: 80, guest: 80 };
  const refused = (given: Forward): Promise<VitrineError> => Promise.resolve(new VitrineError({ attempted: 'x', on: portSpec(given), why: 'y', remedy: '', code: 'port-in-use' }));
  const code = async (words: string, forwards: Forward[]): Promise<string> => (await startProblem(words, 'exit code 1', forwards, refused)).problem.code;
  assert.equal(await code(`${noise}Failed to bind any port for '-t 127.0.0.1/80:80', exiting`, [forward]), 'port-in-use');
  assert.equal(await code('Failed to bind port 80 (Permission denied) for option \'-t 80:80\'', [forward]), 'port-in-use');
  assert.equal(await code('Couldn\'t create user namespace: Operation not permitted', [forward]), 'passt-namespaces');
  const other = await startProblem('', 'SIGSEGV', [], refused);
  assert.deepEqual([other.problem.code, /SIGSEGV/.test(other.problem.why)], ['passt-failed', true]);
});

test('the frames that it answers are whole: lengths and checksums', () => {
  const [arp, ndp] = probeFrames(Uint8Array.from([0x52, 0x54, 0, 1, 2, 3])) as [Uint8Array, Uint8Array];
  assert.equal(arp.length, 42);
  assert.equal(ndp.length, 14 + 40 + 32);
  const sum = (bytes: number[]): number => {
    let total = 0;
    for (let i = 0; i < bytes.length; i += 2) total += bytes[i]! * 256 + bytes[i + 1]!;
    while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 65536);
    return total;
  };
  assert.equal(sum([...ndp.subarray(22, 54), 0, 32, 0, 58, ...ndp.subarray(54)]), 0xffff, 'the checksum over pseudo header and message (RFC 4443 §2.3)');
});
