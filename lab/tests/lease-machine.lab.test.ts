// Machines of an ordinary user with devices by a lease, from the command to the host's driver: `vitrine run --vfio-pci` and `vitrine device add`,
// permitted by real polkit, in the lab; then the processes that have a part in it are killed, one at a time and all at once, and the host's
// driver must have the device again and work. VITRINE_LONG=1 kills each alone as well.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { buildApp } from '../../scripts/setup/build.mjs';
import { labPaths } from '../../scripts/setup/lab.mjs';
import type { LabCommand } from '../client.ts';
import { nodeWords } from '../node-words.ts';
import { SerialConsole } from '../serial-console.ts';
import { top } from './support/lab-machine.ts';
import { LeaseLab, NIC, PATIENCE } from './support/lease-lab.ts';
import { addModules, moduleOrder } from './support/modules.ts';

const NVME = '0000:00:06.0';
const CLI = [process.execPath, ...nodeWords(false), path.join(top, 'out/main/cli.js')].join(' ');
/** What an ordinary user may lock, in KiB: as most distributions have it. */
const MEMLOCK = 8192;
const MODULES = ['e1000e', 'nvme'];
/** What the command lines of these have. */
const [MACHINE, APP] = ['^[^ ]*/node .*out/main/machine\\.js', '^[^ ]*/node .*out/main/cli\\.js run'] as const;
/** The watcher at the end of the command's pipe (src/main/launcher/tether.ts); a pattern that is not found in itself. */
const WATCHER = 'sh -c { read -[r] word';

describe('machines that have devices by a lease', { skip: !fs.existsSync('/usr/bin/pkexec') && 'pkexec is not installed' }, () => {
  let host: LeaseLab;
  let folder: string;
  let initrd: string;
  const { bzImage, modules } = labPaths().kernels['6.1']!;

  before(async () => {
    await buildApp();
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-lease-'));
    fs.chmodSync(folder, 0o755);
    initrd = path.join(folder, 'initrd.gz');
    addModules(path.join(top, 'build/try-linux/initrd.gz'), modules, MODULES, initrd);
    host = await LeaseLab.start({ kernel: '6.12', iommu: 'intel', devices: ['e1000e', 'nvme'] });
    await host.startPolkit();
    await host.decide('polkit.Result.YES');
  });

  after(async () => {
    await host?.lab.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  /** `vitrine run`, on a terminal of its own. */
  async function run(words: string): Promise<[LabCommand, SerialConsole]> {
    const command = await host.lab.start(['sh', '-c', `ulimit -l ${MEMLOCK}; exec ${CLI} run --kvm ${words}`], { cwd: '/' });
    const console = new SerialConsole((text) => command.stdin.write(text), PATIENCE);
    for (const stream of [command.stdout, command.stderr]) stream.on('data', (chunk: Buffer) => console.hear(chunk.toString('latin1')));
    command.exited.then(({ code }) => console.end(`it ended with ${code}`), (thrown: Error) => console.end(thrown.message));
    return [command, console];
  }

  const load = (name: string): string => moduleOrder(modules, [name]).map(({ file }) => `insmod /lib/extra/${file} 2>/dev/null || [ -d /sys/module/${path.basename(file, '.ko')} ]`).join('; ');
  const until = (condition: string): string => `i=0; until ${condition}; do i=$((i + 1)); [ $i -lt 300 ] || { dmesg | tail -n 20; break; }; sleep 0.1; done; ${condition}`;

  it('an ordinary user\'s Linux works a network card, gets a drive and gives it back while it runs, and is killed under traffic', async () => {
    const [command, guest] = await run(`--kernel ${bzImage} --initrd ${initrd} --append 'console=ttyS0 quiet' --memory 256M --vfio-pci ${NIC}`);
    await guest.shell();
    await guest.sh(load('e1000e'));
    const nic = (await guest.sh('ls /sys/bus/pci/drivers/e1000e/*/net')).trim();
    await guest.sh(`ip link set ${nic} up; ${until(`[ "$(cat /sys/class/net/${nic}/carrier 2>/dev/null)" = 1 ]`)}; ip addr add 10.0.2.15/24 dev ${nic}; ping -c 2 -s 20000 10.0.2.2`);

    const name = await host.sh(`${CLI} list --json | grep -o '"run-[0-9a-f]*"' | head -n 1 | tr -d '"'`, 'user');
    for (const round of [1, 2]) {
      const slot = await host.sh(`ulimit -l ${MEMLOCK}; ${CLI} device add ${name} vfio-pci,${NVME}`, 'user');
      await guest.sh(`${load('nvme')}; ${until('[ -b /dev/nvme0n1 ]')}`);
      // As long as the machine has it, the helper waits, and the node is root's again: nobody else can open it.
      await host.until('the node is of root', `[ "$(stat -c %u /dev/vfio/$(basename "$(readlink /sys/bus/pci/devices/${NVME}/iommu_group)"))" = 0 ]`);
      if (round === 2) break;
      await guest.sh('echo vitrine > /dev/nvme0n1; sync; ping -c 2 10.0.2.2');
      await host.sh(`${CLI} device remove ${name} ${slot}`, 'user');
      await host.until('the host has the drive', '[ -b /dev/nvme0n1 ]');
      assert.equal(await host.sh('head -c 7 /dev/nvme0n1'), 'vitrine');
      await host.until('the network card alone is leased', '[ "$(ls /run/vitrine/lease.* | wc -l)" = 1 ]');
    }
    await guest.sh('ping -s 8000 10.0.2.2 > /dev/null & while dd if=/dev/nvme0n1 of=/dev/null bs=64k iflag=direct 2>/dev/null; do true; done & ping -c 3 10.0.2.2');
    await host.sh(`kill -9 ${await host.processes(MACHINE)}`);
    await command.exited;
    await host.undone();
    await host.nicWorks();
    assert.equal(await host.bindingOf(NVME), 'nvme\n(null)');
    assert.equal(await host.sh('head -c 7 /dev/nvme0n1'), 'vitrine');
  });

  const killed = async (...words: string[]): Promise<string> => `kill -9 ${(await Promise.all(words.map((each) => host.processes(each)))).join(' ')}`;
  const kills: [who: string, how: () => Promise<string>, long: boolean][] = [
    ['the app', () => killed(APP), true],
    ['the helper, and then the machine', async () => `kill -9 ${(await host.helpers()).helper}; kill -TERM ${await host.processes(MACHINE)}`, true],
    ['all of them', async () => {
      const { helper, guardian } = await host.helpers();
      // Stopped, so that it gets itself no other guardian in between.
      return `kill -STOP ${helper}; ${await killed(APP, WATCHER, MACHINE)} ${guardian} ${helper}`;
    }, false],
  ];
  for (const [who, how, long] of kills) {
    it(`the host's driver works the device again when they are killed: ${who}`, { skip: long && process.env.VITRINE_LONG !== '1' && 'in the long run alone' }, async () => {
      const [command] = await run(`--kernel ${path.join(top, 'build/guests/demo.elf')} --append idle --memory 64M --display canvas --vfio-pci ${NIC}`);
      await host.until('the machine has the device', 'ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q vfio-device');
      await host.until('the machine has its watcher', `cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q '${WATCHER}'`);
      await host.sh(await how());
      await command.exited;
      if (who === 'all of them') {
        assert.equal(await host.bindingOf(NIC), 'vfio-pci\nvfio-pci');
        await host.sh(`${CLI} release`, 'user');
      }
      await host.undone();
      await host.nicWorks();
    });
  }
});
