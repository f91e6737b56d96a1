// Network cards under Linux' own driver, in the lab: one machine with a card over passt, run by the lab's ordinary user, and a card on a TAP interface
// with two queues that the lab's root prepared. What they talk to is a server of the lab's (support/net-server.mjs). Run by VITRINE_LONG=1.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { labPaths } from '../../scripts/setup/lab.mjs';
import type { LabCommand } from '../client.ts';
import { startLab, type LabHost } from '../host.ts';
import { fired, inSlot, loading, until } from './support/guest-tools.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';
import { addModules } from './support/modules.ts';
import { asRoot } from './support/passthrough.ts';

const MIB = 2 ** 20;
const LONG = process.env['VITRINE_LONG'] === '1';
const FILE_MIB = 2;
const USER = 4;
const TAP = 5;
/** Of the lab, where its server listens: passt carries connections to it, TAP leads to it. */
const HOST = '10.9.0.1';
const HOST6 = 'fd77::1';
const TAP_HOST = '10.8.0.1';
const TAP_GUEST = '10.8.0.2';
const FORWARDED = 2222;

describe('network cards under Linux', { skip: !LONG && 'in the long run alone' }, () => {
  let lab: LabHost;
  let folder: string;
  let server: LabCommand;
  let guest: LabMachine;
  let said = '';
  const { bzImage, modules } = labPaths().kernels['6.1']!;
  const load = loading(modules);
  const content = randomBytes(FILE_MIB * MIB);
  const md5 = createHash('md5').update(content).digest('hex');
  /** Of the first 100,000 bytes. */
  const part = createHash('md5').update(content.subarray(0, 100_000)).digest('hex');
  /** Names of the guest's interfaces. */
  let user = '';
  let tap = '';

  const nicIn = async (slot: number): Promise<string> => (await guest.sh(`${until(`ls ${inSlot(slot)}/virtio*/net > /dev/null 2>&1`)}; ls ${inSlot(slot)}/virtio*/net`)).trim();

  before(async () => {
    await buildDriver();
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-net-'));
    fs.chmodSync(folder, 0o755);
    fs.writeFileSync(path.join(folder, 'content'), content);
    const initrd = path.join(folder, 'initrd.gz');
    addModules(path.join(top, 'build/try-linux/initrd.gz'), modules, ['virtio_pci', 'virtio_net'], initrd);
    lab = await startLab({ kernel: '6.1' });
    const uid = (await lab.run(['id', '-u'])).stdout.trim();
    await asRoot(lab, `/sbin/modprobe tun; chmod 666 /dev/net/tun
      ip addr add ${HOST}/32 dev lo; ip -6 addr add ${HOST6}/128 dev lo
      ip -6 addr add fd66::15/64 dev eth0 nodad; ip -6 route add default via fd66::2 dev eth0 metric 1
      echo nameserver ${HOST} > /etc/resolv.conf; echo nameserver ${HOST6} >> /etc/resolv.conf
      echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range
      ip tuntap add dev vt0 mode tap user ${uid} multi_queue; ip addr add ${TAP_HOST}/24 dev vt0; ip link set vt0 up`);
    server = await lab.start([process.execPath, path.join(top, 'lab/tests/support/net-server.mjs'), path.join(folder, 'content'), HOST, HOST6, TAP_HOST], { user: 'root', cwd: '/' });
    server.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const ready = new Promise<void>((resolve) => server.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes('ready')) resolve();
    }));
    await Promise.race([ready, server.exited.then(() => assert.fail(said))]);
    guest = await LabMachine.start(lab, {
      boot: { kernel: bzImage, initrd, append: 'console=ttyS0 quiet' }, memory: 256 * MIB, cpus: 1, display: { kind: 'none' },
      devices: [
        { kind: 'virtio-net', slot: USER, rings: 'split', linkUp: true, backend: { kind: 'user', forwards: [{ protocol: 'tcp', host: FORWARDED, guest: 22 }] } },
        { kind: 'virtio-net', slot: TAP, rings: 'packed', linkUp: true, mac: '52:54:00:11:22:33', backend: { kind: 'tap', name: 'vt0', queues: 2 } },
      ],
    });
    await guest.shell();
    for (const name of ['virtio_pci', 'virtio_net']) await guest.sh(load(name));
    [user, tap] = [await nicIn(USER), await nicIn(TAP)];
  });

  after(async () => {
    await guest?.close();
    server?.kill();
    await lab?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  /** The content of the lab's file, into the guest. */
  const receive = async (host: string): Promise<void> => {
    assert.match(await guest.sh(`wget -q -O - http://${host}:7002/ | md5sum`), new RegExp(md5));
  };
  /** The same back: the server says what it got. It is told how much comes: Debian 12's passt forgets itself where one side of a connection ends first. */
  const send = async (host: string): Promise<void> => {
    await guest.sh('[ -e /tmp/content ] || wget -q -O /tmp/content http://' + host + ':7002/');
    const said = await guest.sh(`(echo ${content.length}; cat /tmp/content; sleep 6) | nc ${host.replace(/[[\]]/g, '')} 7001`);
    assert.equal(said.trim(), md5);
  };
  const count = async (nic: string, name: string): Promise<number> => Number(await guest.sh(`cat /sys/class/net/${nic}/statistics/${name}`));

  it('gets an address, a route and a name server by DHCP, and asks it', async () => {
    await guest.sh(`ip link set ${user} up; ${until(`[ "$(cat /sys/class/net/${user}/carrier)" = 1 ]`)}`);
    await guest.sh("printf '#!/bin/sh\\n[ \"$1\" = bound ] && { ip addr add $ip/$mask dev $interface; ip route add default via $router; echo nameserver $dns > /etc/resolv.conf; }\\nexit 0\\n' > /tmp/lease; chmod +x /tmp/lease");
    assert.match(await guest.sh(`udhcpc -i ${user} -n -q -t 20 -T 1 -s /tmp/lease`), /lease of 10\.0\.2\.15 obtained from 10\.0\.2\.2/);
    assert.ok(Number(await guest.sh(`cat /sys/class/net/${user}/mtu`)) >= 3200, 'longer than Ethernet\'s: what suits passt and the host\'s sockets');
    assert.match(await guest.sh('nslookup vitrine.example'), new RegExp(`Server:\\s+${HOST}[^]*Address: 192\\.0\\.2\\.77`));
  });

  it('carries TCP each way, byte for byte', async () => {
    await receive(HOST);
    await send(HOST);
    assert.equal(await count(user, 'rx_errors') + (await count(user, 'tx_errors')), 0);
  });

  it('brings connections to a forwarded port into the guest', async () => {
    await guest.sh('(head -c 100000 /tmp/content; sleep 12) | nc -l -p 22 > /tmp/got 2>/dev/null & true');
    await guest.sh(until("netstat -ltn | grep -q ':22 '"));
    const { stdout } = await lab.run(['/bin/sh', '-c', `(head -c 100000 ${folder}/content; sleep 10) | /run/lab/busybox nc 127.0.0.1 ${FORWARDED} | md5sum`], { timeout: 60_000 });
    assert.equal(stdout.slice(0, 32), part);
    assert.equal((await guest.sh(`${until('[ $(wc -c < /tmp/got) = 100000 ]')}; md5sum < /tmp/got`)).slice(0, 32), part);
  });

  it('speaks IPv6: an address by itself, TCP, UDP, echoes', async () => {
    await guest.sh(until(`ip -6 addr show dev ${user} scope global | grep -q 'inet6 fd66::'`));
    await guest.sh(until('ip -6 route | grep -q default'));
    await receive(`[${HOST6}]`);
    await send(`[${HOST6}]`);
    assert.match(await guest.sh(`ping6 -c 2 ${HOST6}`), /2 packets received/);
    assert.match(await guest.sh(`ping -c 2 ${HOST}`), /2 packets received/);
    assert.match(await guest.sh(`nslookup vitrine.example ${HOST6}`), /Address: 192\.0\.2\.77/);
  });

  it('does not reach what the host has on its loopback interface alone', async () => {
    await guest.sh('! nc -w 3 10.0.2.2 7009 < /dev/null');
    assert.doesNotMatch(said, /loopback was reached/);
  });

  it('sees the cable pulled and put in again', async () => {
    await guest.call('changeDevice', USER, { kind: 'link', up: false });
    await guest.sh(until(`[ "$(cat /sys/class/net/${user}/carrier)" = 0 ]`));
    await guest.call('changeDevice', USER, { kind: 'link', up: true });
    await guest.sh(until(`[ "$(cat /sys/class/net/${user}/carrier)" = 1 ]`));
    await receive(HOST);
    await assert.rejects(guest.call('changeDevice', 7, { kind: 'link', up: true }), /no device that can be changed/);
  });

  it('has its network again when passt was killed, and says so', async () => {
    const changes = Number(await guest.sh(`cat /sys/class/net/${user}/carrier_changes`));
    await asRoot(lab, 'kill -9 $(/run/lab/busybox pidof passt passt.avx2)');
    await guest.until('the log tells of it', () => guest.log.some((line) => /passt ended by itself \(SIGKILL\).*started again/.test(line)));
    await guest.sh(until(`[ $(cat /sys/class/net/${user}/carrier_changes) -ge ${changes + 2} ] && [ "$(cat /sys/class/net/${user}/carrier)" = 1 ]`));
    await receive(HOST);
  });

  const useTap = async (): Promise<void> => {
    await guest.sh(`ip link set ${tap} up; ip addr add ${TAP_GUEST}/24 dev ${tap}; ${until(`[ "$(cat /sys/class/net/${tap}/carrier)" = 1 ]`)}`);
    await receive(TAP_HOST);
    await send(TAP_HOST);
  };
  const averages = async (): Promise<{ sent: number; received: number }> => ({
    sent: (await count(tap, 'tx_bytes')) / (await count(tap, 'tx_packets')), received: (await count(tap, 'rx_bytes')) / (await count(tap, 'rx_packets')),
  });

  it('carries TCP over a prepared TAP interface, in segments that nobody cut', async () => {
    assert.equal((await guest.sh(`cat /sys/class/net/${tap}/address`)).trim(), '52:54:00:11:22:33');
    await useTap();
    const { sent, received } = await averages();
    assert.ok(sent > 2000 && received > 2000, `frames have ${sent.toFixed(0)} and ${received.toFixed(0)} bytes on average`);
    // With one CPU the driver uses one pair of the two.
    assert.ok(Number(await guest.sh(fired('virtio1-input.0'))) > 0, 'its own interrupt');
  });

  it('carries the same with no offloads of the driver\'s', async () => {
    await guest.sh(`ip link set ${tap} down; ip link set ${user} down; rmmod virtio_net; ${load('virtio_net', 'csum=0 gso=0')}`);
    tap = await nicIn(TAP);
    const before = await averages().catch(() => undefined);
    assert.ok(before === undefined || Number.isNaN(before.sent) || before.sent < 1515);
    await useTap();
    const { sent } = await averages();
    assert.ok(sent < 1515, `frames have ${sent.toFixed(0)} bytes on average`);
    assert.doesNotMatch(await guest.sh('dmesg'), /virtio_net.*(error|timed out|unexpected)|NETDEV WATCHDOG|hw csum failure/i);
    assert.deepEqual(guest.log.filter((line) => /cannot be carried|refuses/.test(line)), []);
  });
});
