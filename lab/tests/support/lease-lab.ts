// A lab with the privileged helper installed as users are told to, and the questions that tests of leases ask of it.
import assert from 'node:assert/strict';
import path from 'node:path';
import { installCommands } from '../../../src/main/lease/installed.ts';
import { startLab } from '../../host.ts';
import type { LabHost } from '../../host.ts';
import type { LabOptions } from '../../options.ts';
import { top } from './lab-machine.ts';

export const PATIENCE = 180_000;
/** The e1000e. */
export const NIC = '0000:00:05.0';

export class LeaseLab {
  readonly lab: LabHost;
  /** The ordinary user's id. */
  readonly uid: string;
  /** The NIC's interface on the host. */
  readonly link: string;

  static async start(options: LabOptions): Promise<LeaseLab> {
    const lab = await startLab(options);
    try {
      const say = async (line: string, user: 'root' | 'user'): Promise<string> => (await lab.run(['sh', '-ec', line], { cwd: '/', user, timeout: PATIENCE })).stdout.trim();
      const made = new LeaseLab(lab, await say('id -u', 'user'), await say(`ls /sys/bus/pci/devices/${NIC}/net`, 'root'));
      for (const line of installCommands({ helper: path.join(top, 'build/native/vitrine-helper'), policy: path.join(top, 'native/lease/org.vitrine.helper.policy') })) await made.sh(line.replace(/^sudo /, ''));
      return made;
    } catch (thrown) {
      await lab.stop();
      throw thrown;
    }
  }

  private constructor(lab: LabHost, uid: string, link: string) {
    this.lab = lab;
    this.uid = uid;
    this.link = link;
  }

  /** Runs a line in a shell; its output. Fails when its exit code is not 0. */
  async sh(line: string, user: 'root' | 'user' = 'root'): Promise<string> {
    const { code, stdout, stderr } = await this.lab.run(['sh', '-c', line], { cwd: '/', user, timeout: PATIENCE });
    assert.equal(code, 0, `${line}: ${stdout}${stderr}`);
    return stdout.trim();
  }

  /** Waits until the shell's `condition` holds: one command that waits inside, since each of its own takes the lab a while. */
  async until(what: string, condition: string): Promise<void> {
    await this.sh(`n=0; until ${condition}; do n=$((n+1)); [ $n -lt 1200 ] || { echo 'it never came to this: ${what}'; exit 1; }; sleep 0.1; done`);
  }

  /** A device's driver ("none") and, on a line of its own, its override. */
  bindingOf(address: string): Promise<string> {
    return this.sh(`cd /sys/bus/pci/devices/${address}; basename "$(readlink driver || echo none)"; cat driver_override`);
  }

  /** The ids of the processes whose command line matches, at least one, in one line. */
  async processes(pattern: string): Promise<string> {
    const found = await this.sh(`for p in /proc/[0-9]*; do (tr '\\0' ' ' < $p/cmdline) 2>/dev/null | grep -q '${pattern}' && echo \${p#/proc/}; done; true`);
    assert.notEqual(found, '', `no process is ${pattern}`);
    return found.replaceAll('\n', ' ');
  }

  /** All leases are undone. */
  async undone(): Promise<void> {
    await this.until('the helper has undone it', '[ "$(ls /run/vitrine)" = lock ]');
  }

  /** The NIC's driver has it, under its name, and frames go both ways. */
  async nicWorks(): Promise<void> {
    await this.until('the link has its name', `[ -e /sys/bus/pci/devices/${NIC}/net/${this.link} ]`);
    assert.equal(await this.bindingOf(NIC), 'e1000e\n(null)');
    await this.sh(`/run/lab/busybox ip link set ${this.link} up`);
    await this.until('the link is up', `grep -q 1 /sys/class/net/${this.link}/carrier`);
    await this.sh(`/run/lab/busybox udhcpc -i ${this.link} -n -q -t 20 -T 1 -s /bin/true`);
  }

  /** The helper and the guardian of the lease that there is. */
  async helpers(): Promise<{ helper: number; guardian: number }> {
    const helper = Number((await this.sh('sed -n "1s/.* //p" /run/vitrine/lease.*')));
    return { helper, guardian: Number(await this.sh(`cat /proc/${helper}/task/${helper}/children`)) };
  }

  /** Starts what polkit needs. Its rules are this lab's own. */
  async startPolkit(): Promise<void> {
    await this.sh('mkdir -p /run/dbus /etc/polkit-1/rules.d; mount -t tmpfs -o mode=755 tmpfs /etc/polkit-1/rules.d; dbus-daemon --system --fork --nopidfile');
  }

  /** Has polkitd answer so when the user asks for the helper: `result` is an expression of its rules, as `polkit.Result.YES`. */
  async decide(result: string): Promise<void> {
    const rule = `polkit.addRule(function(action, subject) { if (action.id.indexOf("org.vitrine.helper.") == 0 && subject.user == "'"$(id -nu ${this.uid})"'") return ${result}; });`;
    const asked = 'dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetConnectionUnixProcessID string:org.freedesktop.PolicyKit1 2>/dev/null | grep -q "uint32 $(cat /run/polkitd.pid)$"';
    await this.sh(`echo '${rule}' > /etc/polkit-1/rules.d/10-test.rules; [ ! -e /run/polkitd.pid ] || kill $(cat /run/polkitd.pid); /usr/lib/polkit-1/polkitd --no-debug >/dev/null 2>&1 & echo $! > /run/polkitd.pid; n=0; until ${asked}; do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done`);
  }
}
