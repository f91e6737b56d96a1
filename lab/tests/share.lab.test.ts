// Shared folders under Linux' own 9p driver, in the lab: a tree copied out of the folder and back, compared by the lab's tools; files renamed and removed
// while they are open; a share that is read-only; ways out; a share that vanishes; a pause and a driver that begins again in the middle of it all.
// The guest is root, the machine an ordinary user's.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { labPaths } from '../../scripts/setup/lab.mjs';
import { startLab, type LabHost } from '../host.ts';
import { inSlot, loading, until } from './support/guest-tools.ts';
import { kernelLog } from './support/kernel-log.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';
import { addModules } from './support/modules.ts';

const MIB = 2 ** 20;
/** Folders of ten files each. */
const FOLDERS = process.env['VITRINE_LONG'] === '1' ? 100 : 3;
const MODULES = ['virtio_pci', '9pnet_virtio', '9p'];
const SLOT = 5;
/** In the lab, the ordinary user's. */
const SHARES = '/tmp/shares';

/** A tree with what a tree may have: sizes from nothing to a megabyte, names of any bytes, modes, links, times. */
const MAKE_TREE = `set -e; umask 022; mkdir -p ${SHARES}/work/in ${SHARES}/docs/part ${SHARES}/gone/deep; truncate -s 5G ${SHARES}/work/sparse; echo outside > ${SHARES}/secret; cd ${SHARES}/work/in
for d in $(seq ${FOLDERS}); do mkdir -p "d$d/below"; for f in 1 2 3 4 5 6 7 8 9 10; do head -c $((d * f * 977)) /dev/urandom > "d$d/below/f$f"; touch -d "@$((1000000000 + d * 1000 + f))" "d$d/below/f$f"; done; done
head -c 1048577 /dev/urandom > large; : > empty
printf 'a\\n' > "$(printf 'name \\303\\251 \\377 with spaces\\nand a line')"; printf 'long' > "$(printf 'n%.0s' $(seq 255))"
ln -s d1/below/f1 link; ln -s nowhere dangling; ln -s ../../secret out; ln d1/below/f2 hard; ln d1/below/f2 d1/hard2; mkfifo fifo
chmod 0600 large; chmod 4755 d1/below/f3; chmod 0000 empty; chmod 1777 d2; chmod 0444 d1/below/f5
touch -h -d @1234567890 link dangling out; touch -d @1111111111 large hard fifo empty name*; touch -d '2001-02-03 04:05:06.123456789 UTC' d1/below/f4
find . -depth -type d -exec touch -d @1300000000 {} +
echo readable > ${SHARES}/docs/text; : > ${SHARES}/docs/part/within; echo there > ${SHARES}/gone/file`;

/**
 * All of a tree that busybox's cp keeps (but for the times of symbolic links): names, kinds, modes, links, sizes, whole seconds, owners,
 * contents, and which names are one file.
 */
const PICTURE = (folder: string): string => `cd ${folder} && find . -type d -printf '%p %y %m %Ts\\0' -o -type l -printf '%p %y %n %s %U %G %l\\0' -o -printf '%p %y %m %n %s %Ts %U %G\\0' | LC_ALL=C sort -z | tr '\\n\\0' '?\\n'
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | tr '\\n' '?'; find . -type f -links +1 -printf '%i %p\\n' | sort | awk '{ print ($1 == last) " " $2; last = $1 }'`;

describe('a shared folder under Linux', () => {
  let lab: LabHost;
  let folder: string;
  let guest: LabMachine;
  const { bzImage, modules } = labPaths().kernels['6.1']!;
  const inTheLab = async (script: string): Promise<string> => {
    const { code, stdout, stderr } = await lab.run(['bash', '-c', script], { cwd: '/tmp' });
    assert.equal(code, 0, `${stdout}\n${stderr}`);
    return stdout;
  };
  const mount = (tag: string, options = ''): string => `mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000${options} ${tag} /mnt/${tag}`;

  before(async () => {
    await buildDriver();
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-share-'));
    fs.chmodSync(folder, 0o755);
    const initrd = path.join(folder, 'initrd.gz');
    addModules(path.join(top, 'build/try-linux/initrd.gz'), modules, MODULES, initrd);
    lab = await startLab({});
    await inTheLab(MAKE_TREE);
    const machine = await LabMachine.start(lab, {
      boot: { kernel: bzImage, initrd, append: 'console=ttyS0 quiet' }, memory: 192 * MIB, display: { kind: 'none' },
      devices: [
        { kind: 'virtio-9p', slot: SLOT, tag: 'work', folder: `${SHARES}/work`, readonly: false, rings: 'split' },
        { kind: 'virtio-9p', slot: SLOT + 1, tag: 'docs', folder: `${SHARES}/docs`, readonly: true, rings: 'packed' },
        { kind: 'virtio-9p', slot: SLOT + 2, tag: 'gone', folder: `${SHARES}/gone`, readonly: false, rings: 'split' },
      ],
    });
    guest = await machine.shell();
    for (const name of MODULES) await guest.sh(loading(modules)(name));
    await guest.sh('mkdir -p /mnt/work /mnt/docs /mnt/gone');
    for (const tag of ['work', 'docs', 'gone']) await guest.sh(mount(tag));
  });

  after(async () => {
    await guest?.close();
    await lab?.stop();
    if (folder !== undefined) fs.rmSync(folder, { recursive: true, force: true });
  });

  it('gives a tree that is copied out and back as it was, while the machine is paused now and then', async () => {
    // The mode of 0 keeps the user who runs the machine from reading it; Linux in the guest would let root.
    assert.match(await guest.sh('cat /mnt/work/in/empty 2>&1; true'), /Permission denied/);
    await inTheLab(`chmod 0400 ${SHARES}/work/in/empty`);
    const copy = guest.sh('cd /mnt/work; mkdir /tmp/copy out; cp -a in/. /tmp/copy/; cp -a /tmp/copy/. out/; sync; cd /');
    for (let i = 0; i < 5; i++) {
      await guest.call('pause');
      await guest.call('resume');
    }
    await copy;
    const [before_, after_] = [await inTheLab(PICTURE(`${SHARES}/work/in`)), await inTheLab(PICTURE(`${SHARES}/work/out`))];
    assert.ok(before_.split('\n').length > FOLDERS * 10);
    assert.equal(after_, before_);
    const sums = 'cd WHERE; sha256sum d1/below/f1 d2/below/f10 large';
    assert.equal(await guest.sh(sums.replace('WHERE', '/mnt/work/in')), await inTheLab(sums.replace('WHERE', `${SHARES}/work/in`)));
  });

  it('shows links, times to the nanosecond, sizes beyond 4 GiB and special files as they are', async () => {
    const words = "cd WHERE/in; stat -c '%n %F %a %h %s %Y %u %g' d1/below/f2 link dangling ../sparse fifo d1/below/f3 d2 | sed 's/regular empty/regular/'; TZ=UTC stat -c %y d1/below/f4 | cut -c 1-29; readlink out; ls -A d3/below | sort";
    const expected = await inTheLab(words.replace('WHERE', `${SHARES}/work`));
    assert.match(expected, /\.123456789/);
    assert.equal(await guest.sh(words.replace('WHERE', '/mnt/work')), expected);
    assert.match(await guest.sh('df -P /mnt/work | tail -n 1'), /^work\s+\d+/);
    assert.equal((await guest.sh('dd if=/mnt/work/sparse bs=1M skip=4500 count=1 2>/dev/null | tr -d "\\0" | wc -c')).trim(), '0');
  });

  it('keeps files that are renamed and removed while they are open', async () => {
    assert.equal(await guest.sh('cd /mnt/work; exec 3> open 4< open; echo one >&3; mv open moved; echo two >&3; rm moved; echo three >&3; cat <&4; [ ! -e open ] && [ ! -e moved ]; exec 3>&- 4<&-; cd /'), 'one\ntwo\nthree\n');
    await guest.sh('cd /mnt/work; mkdir -p a/b/c; cd a/b/c; mv /mnt/work/a /mnt/work/z; echo here > file; cd /; cat /mnt/work/z/b/c/file');
    assert.equal(await inTheLab(`cat ${SHARES}/work/z/b/c/file; echo by the host >> ${SHARES}/work/z/b/c/file`), 'here\n');
    assert.equal(await guest.sh('cat /mnt/work/z/b/c/file; ! rmdir /mnt/work/z 2>/dev/null; rm -r /mnt/work/z; [ ! -e /mnt/work/z ]'), 'here\nby the host\n');
  });

  it('lets nothing be changed in a share that is read-only', async () => {
    assert.equal(await guest.sh('cat /mnt/docs/text'), 'readable\n');
    for (const change of ['touch /mnt/docs/new', 'rm /mnt/docs/text', 'mv /mnt/docs/text /mnt/docs/other', 'mkdir /mnt/docs/d', 'ln -s x /mnt/docs/l', 'chmod 777 /mnt/docs/text', 'sh -c "echo x >> /mnt/docs/text"', 'mkfifo /mnt/docs/f', 'ln /mnt/docs/text /mnt/docs/h']) {
      assert.match(await guest.sh(`! ${change}`), /Read-only file system/, change);
    }
    assert.equal(await inTheLab(`cd ${SHARES}/docs; ls -A; cat text`), 'part\ntext\nreadable\n');
  });

  it('leads nowhere but into the folder', async () => {
    assert.match(await guest.sh('! cat /mnt/work/in/out'), /No such file/);
    await guest.sh('cd /mnt/work; ln -s ../secret up; ! cat up 2>/dev/null; ln -s /etc/hostname host; ! cat host/x 2>/dev/null; cd /');
    assert.match(await guest.sh('! mknod /mnt/work/device c 1 3'), /Operation not permitted/);
    assert.match(await guest.sh('! chown 12345 /mnt/work/in/large'), /Operation not permitted/);
    await guest.sh('umount /mnt/docs');
    for (const aname of ['..', 'part/../..', '/../secret', 'text']) await guest.sh(`! ${mount('docs', `,aname=${aname}`)} 2>/dev/null`);
    assert.equal(await guest.sh(`${mount('docs', ',aname=/part')}; ls -A /mnt/docs; umount /mnt/docs`), 'within\n');
    assert.equal(await inTheLab(`cat ${SHARES}/secret; ls ${SHARES}`), 'outside\ndocs\ngone\nsecret\nwork\n');
  });

  it('goes on without a share that has vanished', async () => {
    assert.equal(await guest.sh('cat /mnt/gone/file; cd /mnt/gone/deep'), 'there\n');
    await inTheLab(`rm -rf ${SHARES}/gone`);
    assert.match(await guest.sh('! cat /mnt/gone/file'), /No such file|Stale/);
    assert.match(await guest.sh('! touch /mnt/gone/other'), /No such file|Stale/);
    await guest.sh('cd /; ls /mnt/gone; umount /mnt/gone; echo still > /mnt/work/still');
    assert.equal(await inTheLab(`cat ${SHARES}/work/still`), 'still\n');
  });

  it('is there again after its device was taken out and found again', async () => {
    await guest.sh(`umount /mnt/work; echo 1 > ${inSlot(SLOT)}/remove; echo 1 > /sys/bus/pci/rescan; ${until(`[ -e ${inSlot(SLOT)}/virtio* ]`)}; ${mount('work', ',cache=loose')}; cat /mnt/work/still`);
    assert.equal(await guest.sh('for i in 1 2; do cat /mnt/work/in/d1/below/f* | wc -c; done | uniq | wc -l'), '1\n');
    assert.doesNotMatch(await kernelLog(guest), /9p[^\n]*(error|fail)|BUG:|WARNING:|Oops|Call Trace/);
  });
});
