// Whether this computer's KVM runs guests, and Linux: the VMM's own probe, in a child process.
import { join } from 'node:path';
import { root, systemEnvironment, tryRun } from './run.mjs';

const limitMs = 20_000;

/** @returns {{ usable: boolean, canBootLinux: boolean, why: string }} `why` is empty when both are true */
export function probeKvm() {
  const { status, stdout, stderr } = tryRun(join(root, 'scripts/node24'), [join(root, 'src/vmm/kvm/probe-main.ts')], { env: systemEnvironment(), timeout: limitMs });
  try {
    const { usable, canBootLinux, problem } = JSON.parse(stdout);
    return { usable, canBootLinux, why: problem === null ? '' : `${problem.on}: ${problem.why}` };
  } catch {
    return { usable: false, canBootLinux: false, why: `the probe of /dev/kvm ended with ${status}: ${stderr.trim().split('\n')[0]}` };
  }
}
