// The privileged helper with a real kernel: in the lab, on a network card, a disk and a device without a driver. What it is asked for is
// judged by what the kernel says afterwards; that the host's drivers work again, by using them. The last part asks real polkit.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HELPER, POLICY } from '../../src/main/lease/installed.ts';
import { AnswerReader } from '../../src/main/lease/protocol.ts';
import type { LeaseAnswer } from '../../src/main/lease/protocol.ts';
import type { LabCommand } from '../client.ts';
import type { LabHost } from '../host.ts';
import { nodeWords } from '../node-words.ts';
import { LeaseLab, NIC, PATIENCE } from './support/lease-lab.ts';

const top = fileURLToPath(new URL('../..', import.meta.url));
const [NVME, EDU] = ['0000:00:06.0', '0000:00:07.0'] as const;
const MiB = 2 ** 20;
const KERNELS = process.env.VITRINE_LONG === '1' ? (['6.12', '6.1'] as const) : (['6.12'] as const);

let host: LeaseLab;
let lab: LabHost;
let uid: string;
let groups: Record<string, string>;

const sh = (line: string, user: 'root' | 'user' = 'root'): Promise<string> => host.sh(line, user);
const until = (what: string, condition: string): Promise<void> => host.until(what, condition);
const driverOf = (address: string): Promise<string> => sh(`basename "$(readlink /sys/bus/pci/devices/${address}/driver || echo none)"`);
const bindingOf = (address: string): Promise<string> => host.bindingOf(address);

/** A lease as pkexec would start it for the lab's user. */
class Session {
  readonly command: LabCommand;
  readonly #reader = new AnswerReader();
  readonly #answers: LeaseAnswer[] = [];
  #wake: () => void = () => {};
  said = '';

  static async open(): Promise<Session> {
    const session = new Session(await lab.start([HELPER, 'lease'], { cwd: '/', user: 'root', env: { PKEXEC_UID: uid } }));
    await session.answer();
    return session;
  }

  private constructor(command: LabCommand) {
    this.command = command;
    command.stderr.resume();
    command.stdout.on('data', (chunk: Buffer) => {
      this.said += chunk.toString();
      this.#answers.push(...this.#reader.push(chunk.toString()));
      this.#wake();
    });
    command.exited.then(() => this.#wake(), () => this.#wake());
  }

  async answer(): Promise<LeaseAnswer> {
    if (this.#answers.length === 0) {
      await Promise.race([new Promise<void>((resolve) => (this.#wake = resolve)), this.command.exited.then(({ code }) => assert.fail(`the helper ended with ${code}: ${this.said}`))]);
      return this.answer();
    }
    return this.#answers.shift()!;
  }

  async ask(line: string, expected = 'ok'): Promise<LeaseAnswer> {
    this.command.stdin.write(`${line}\n`);
    const answer = await this.answer();
    assert.equal(answer.code, expected, `${line}: ${this.said}`);
    return answer;
  }

  async end(): Promise<number | null> {
    this.command.stdin.end();
    return (await this.command.exited).code;
  }
}

for (const kernel of KERNELS) describe(`the privileged helper on Linux ${kernel}`, () => {
  before(async () => {
    host = await LeaseLab.start({ kernel, iommu: 'intel', devices: ['e1000e', 'nvme', 'edu'] });
    ({ lab, uid } = host);
    groups = Object.fromEntries(await Promise.all([NIC, NVME, EDU].map(async (address) => [address, await sh(`basename $(readlink /sys/bus/pci/devices/${address}/iommu_group)`)])));
  });
  after(() => lab?.stop());

  it('refuses an ordinary user in words', async () => {
    const { code, stdout } = await lab.run([HELPER, 'lease'], { cwd: '/', env: { PKEXEC_UID: '0' }, timeout: PATIENCE });
    assert.deepEqual([code, stdout], [1, 'error root only root can do this; start the helper by pkexec or sudo\n']);
  });

  it('gives a network card to the user and back to its driver, which works again', async () => {
    await host.nicWorks();
    const session = await Session.open();
    assert.deepEqual((await session.ask(`plan ${NIC}`)).data.map(({ words }) => words.join(' ')), [`override ${NIC} -`, `unbind ${NIC} e1000e`, `bind ${NIC} vfio-pci`]);
    assert.equal(await driverOf(NIC), 'e1000e');
    await session.ask(`bind ${NIC}`);
    assert.equal(await bindingOf(NIC), 'vfio-pci\nvfio-pci');
    const node = `/dev/vfio/${groups[NIC]}`;
    assert.equal(await sh(`test -w ${node} || echo no`, 'user'), 'no');
    await session.ask(`permit ${groups[NIC]}`);
    assert.equal(await sh(`stat -c '%u %a' ${node}`), `${uid} 600`);
    // A machine has the group open: nothing goes back before it ends.
    const machine = await lab.start(['sh', '-c', `exec 3<>${node}; echo open; read line`], { cwd: '/' });
    machine.stderr.resume();
    await new Promise((resolve) => machine.stdout.once('data', resolve));
    await session.ask(`unbind ${NIC}`, 'in-use');
    session.command.stdin.end();
    await until('the node is taken back', `[ "$(stat -c %u ${node})" = 0 ]`);
    assert.equal(await driverOf(NIC), 'vfio-pci');
    machine.stdin.end();
    assert.equal((await session.command.exited).code, 0);
    await host.nicWorks();
    assert.equal(await sh('ls /run/vitrine'), 'lock');
  });

  it('is followed by its guardian, and when both are killed by the next helper', async () => {
    for (const both of [false, true]) {
      const session = await Session.open();
      await session.ask(`bind ${NIC}`);
      await session.ask(`permit ${groups[NIC]}`);
      const { helper, guardian } = await host.helpers();
      // Stopped, so that it gets itself no other guardian in between.
      await sh(both ? `kill -STOP ${helper}; kill -9 ${guardian}; kill -9 ${helper}` : `kill -9 ${helper}`);
      await session.command.exited;
      if (both) {
        assert.equal(await driverOf(NIC), 'vfio-pci');
        assert.match(await sh(`${HELPER} list`), /^note undid what a helper that was killed had left\nhello 1 0\n\nok$/);
      }
      await until('the journal is gone', '[ "$(ls /run/vitrine)" = lock ]');
      await host.nicWorks();
    }
  });

  it('gives no disk away that the host uses, in whatever way', async () => {
    const session = await Session.open();
    const disk = '/dev/nvme0n1';
    const part = `${disk}p1`;
    // A partition table (MBR): one entry, type 83, from sector 2048, 65536 sectors long.
    await sh(`printf '\\0\\0\\0\\0\\203\\0\\0\\0\\0\\10\\0\\0\\0\\0\\1\\0' | dd of=${disk} bs=1 seek=446 conv=notrunc 2>&1; printf '\\125\\252' | dd of=${disk} bs=1 seek=510 conv=notrunc 2>&1; blockdev --rereadpt ${disk}`);
    await sh(`modprobe ext4; mkdir -p /mnt/disk; mke2fs -q -F -t ext4 ${part} && mount ${part} /mnt/disk`);
    assert.match((await session.ask(`bind ${NVME}`, 'mounted')).why, /nvme0n1p1 lies on 0000:00:06\.0 and is mounted at \/mnt\/disk/);
    await sh('umount /mnt/disk');
    // In a mount namespace that the helper does not see.
    const hidden = await lab.start(['unshare', '-m', 'sh', '-c', `mount ${part} /mnt/disk && echo mounted && read line`], { cwd: '/', user: 'root' });
    hidden.stderr.resume();
    await new Promise((resolve) => hidden.stdout.once('data', resolve));
    await session.ask(`bind ${NVME}`, 'in-use');
    hidden.stdin.end();
    await hidden.exited;
    await sh(`mkswap ${part} && swapon ${part}`);
    await session.ask(`bind ${NVME}`, 'swap');
    await sh(`swapoff ${part}`);
    assert.equal(await driverOf(NVME), 'nvme');
    await session.ask(`bind ${NVME}`);
    assert.equal(await driverOf(NVME), 'vfio-pci');
    assert.equal(await session.end(), 0);
    // The host's driver works with it again.
    await until('the disk is there', `[ -b ${disk} ]`);
    assert.equal(await sh(`echo vitrine > ${disk}; sync; head -c 7 ${disk}`), 'vitrine');
  });

  it('lets a process of the user\'s pin more, and no other one', async () => {
    const program = [
      "const koffi = require('koffi'); const c = koffi.load('libc.so.6');",
      "const mmap = c.func('void *mmap(void *at, size_t length, int protection, int flags, int fd, long offset)'); const mlock = c.func('int mlock(void *at, size_t length)');",
      `const at = mmap(null, ${64 * MiB}, 3, 0x22, -1, 0);`,
      "process.stdin.on('data', () => console.log(mlock(at, " + String(64 * MiB) + ')));',
      'console.log(process.pid);',
    ].join('\n');
    const machine = await lab.start(['sh', '-c', 'ulimit -l 8192; exec "$@"', 'sh', process.execPath, '-e', program], { cwd: top });
    machine.stderr.resume();
    const said = async (): Promise<string> => String(await new Promise((resolve) => machine.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString().trim()))));
    const pid = await said();
    machine.stdin.write('\n');
    assert.equal(await said(), '-1');
    const session = await Session.open();
    const limits = `sed -n 's/^Max locked memory *//p' /proc/${pid}/limits`;
    const before = await sh(limits);
    assert.match(before, /^8388608 /);
    assert.match((await session.ask(`memlock ${pid} ${2 ** 41}`, 'memory')).why, /2097\d\d\d MiB more would be pinned, and the host can spare \d+ MiB/);
    await session.ask('memlock 2 8388608', 'not-yours');
    await session.ask(`memlock ${(await helpersPid())} 4294967296`, 'not-yours');
    await session.ask(`memlock ${pid} ${128 * MiB}`);
    machine.stdin.write('\n');
    assert.equal(await said(), '0');
    assert.equal(await session.end(), 0);
    assert.equal(await sh(limits), before);
    machine.kill();
    await machine.exited.catch(() => {});
  });

  /** The agent's process: root's. */
  const helpersPid = (): Promise<string> => sh('echo $PPID');

  it('binds and releases for the command line', async () => {
    const vitrine = (words: string, user: 'root' | 'user') => lab.run([process.execPath, ...nodeWords(true), path.join(top, 'src/cli/main.ts'), ...words.split(' ')], { cwd: '/', user, timeout: PATIENCE, env: user === 'root' ? { SUDO_UID: uid } : {} });
    await sh('[ ! -e /usr/bin/pkexec ] || mount --bind /dev/null /usr/bin/pkexec');
    const asked = await vitrine('bind 00:07.0', 'user');
    assert.equal(asked.code, 1, asked.stderr);
    assert.match(asked.stderr, new RegExp(`pkexec, which asks for it, is not installed.*printf '%s\\\\n' 'bind ${EDU}' 'permit ${groups[EDU]}' \\| sudo ${HELPER} apply`, 's'));
    await sh('[ ! -e /usr/bin/pkexec ] || umount /usr/bin/pkexec');
    const bound = await vitrine('bind 00:07.0', 'root');
    assert.deepEqual([bound.code, bound.stderr], [0, '']);
    assert.equal(await driverOf(EDU), 'vfio-pci');
    assert.equal(await sh(`stat -c %u /dev/vfio/${groups[EDU]}`), uid);
    const released = await vitrine('release', 'root');
    assert.deepEqual([released.code, released.stdout], [0, `${EDU} is back; it had no driver.\n`]);
    assert.equal(await bindingOf(EDU), 'none\n(null)');
    // The same by hand, as the message says.
    await sh(`printf '%s\\n' 'bind ${EDU}' 'permit ${groups[EDU]}' | SUDO_UID=${uid} ${HELPER} apply`);
    assert.match(await sh('cat /run/vitrine/lease.*', 'user'), /\nkept$/);
    await sh(`${HELPER} release ${EDU}`);
    assert.equal(await sh('ls /run/vitrine'), 'lock');
  });

  it('installs itself, and has the start-up files made by a program that has all of root\'s capabilities', async () => {
    const built = path.join(top, 'build/native/vitrine-helper');
    await sh(`rm ${HELPER} ${POLICY}; ${built} install; cmp ${built} ${HELPER}; cmp ${path.join(top, 'native/lease/org.vitrine.helper.policy')} ${POLICY}`);
    assert.equal(await sh(`stat -c '%u %g %a' ${HELPER} ${POLICY}`), '0 0 755\n0 0 644');
    // In the place of the distribution's, for as long as this takes.
    const fake = '/run/initramfs';
    await sh(`printf '#!/bin/sh\\ngrep -E "^(CapEff|NoNewPrivs|SigIgn)" /proc/self/status > /run/made\\ncat /etc/modprobe.d/vitrine.conf >> /run/made\\n' > ${fake}; chmod 755 ${fake}; [ -e /usr/sbin/update-initramfs ] || touch /usr/sbin/update-initramfs; mount --bind ${fake} /usr/sbin/update-initramfs`);
    try {
      const root = await sh('grep -E "^(CapEff|NoNewPrivs)" /proc/self/status');
      assert.match(await sh(`PKEXEC_UID=${uid} ${HELPER} reserve ${EDU}`), /\nprogress update-initramfs makes the start-up files anew.*\nreserved 0000:00:07\.0 1234:11e8\nok$/s);
      const made = (await sh('cat /run/made', 'user')).split('\n');
      assert.deepEqual(made.filter((line) => /^(Cap|NoNew)/.test(line)).toSorted(), root.split('\n').toSorted());
      assert.match(made.join('\n'), /^SigIgn:\t0+$/m);
      assert.equal(made.at(-1), 'options vfio-pci ids=1234:11e8');
      assert.equal(await sh('tail -n +2 /var/lib/vitrine/state', 'user'), `reserved ${EDU} 1234:11e8 -`);
      await sh(`${HELPER} unreserve ${EDU}; [ ! -e /etc/modprobe.d/vitrine.conf ]`);
    } finally {
      await sh('umount /usr/sbin/update-initramfs; rm -f /run/vitrine/startup');
    }
  });

  it('is started by polkit when that says yes, and the user is told when it says no, or nobody can be asked', { skip: !fs.existsSync('/usr/bin/pkexec') && 'pkexec is not installed' }, async () => {
    const script = path.join(top, 'lab/tests/support/open-lease.ts');
    const open = () => lab.run([process.execPath, ...nodeWords(true), script, EDU], { cwd: top, timeout: PATIENCE });
    await host.startPolkit();
    await host.decide('polkit.Result.YES');
    const yes = await open();
    assert.deepEqual([yes.code, yes.stdout], [0, `bound, driver vfio-pci\nended with 0\n`], yes.stderr);
    assert.equal(await bindingOf(EDU), 'none\n(null)');
    await host.decide('polkit.Result.NO');
    assert.match((await open()).stdout, /^lease-denied Cannot give devices to the machine: permission was refused\./);
    await host.decide('polkit.Result.NOT_HANDLED');
    assert.match((await open()).stdout, new RegExp(`^lease-no-agent .*no authentication agent runs.*\\| sudo ${HELPER} apply`, 's'));
    assert.equal(await bindingOf(EDU), 'none\n(null)');
  });

  it('asks nobody for what was granted, and refuses the rest', { skip: !fs.existsSync('/usr/bin/pkexec') && 'pkexec is not installed' }, async () => {
    // Whoever sits at the computer gets this from the policy; the lab has no seats, so a rule says it.
    await host.decide('action.id == "org.vitrine.helper.granted" ? polkit.Result.YES : polkit.Result.NO');
    await sh(`PKEXEC_UID=${uid} ${HELPER} grant games 4096 ${EDU}`);
    const ask = (machine: string, lines: string[]) => sh(`printf '%s\\n' ${lines.map((line) => `'${line}'`).join(' ')} | SHELL=/bin/sh pkexec --disable-internal-agent ${HELPER} granted ${machine} || true`, 'user');
    const said = await ask('games', [`bind ${EDU}`, `permit ${groups[EDU]}`, `plan ${EDU}`, `bind ${NIC}`, 'keep', 'module vfio', `memlock 1 8192`]);
    assert.deepEqual(said.split('\n').filter((line) => line !== '' && !line.startsWith('hello')).map((line) => line.split(' ').slice(0, 2).join(' ')), ['ok', 'ok', 'ok', 'error not-granted', 'error not-granted', 'error not-granted', 'error request']);
    assert.equal(await bindingOf(EDU), 'none\n(null)');
    assert.match(await ask('other', []), /^error not-granted nothing was allowed for the machine other$/m);
    await sh(`PKEXEC_UID=${uid} ${HELPER} revoke games`);
    assert.match(await ask('games', [`bind ${EDU}`]), /^error not-granted /m);
  });
});
