// Where machines run: on this computer's KVM, or in the lab. KVM is asked by running instructions in a child process (probe-main.ts),
// so that a KVM that misbehaves hurts nobody. There are KVMs that run freestanding guests and no Linux kernel: what a machine's kernel
// is then decides. VITRINE_BACKEND=kvm or =lab (the options --kvm and --lab) decides for all.
import { execFile } from 'node:child_process';
import * as v from 'valibot';
import type { Problem } from '../../shared/errors.ts';
import { VitrineError } from '../../shared/errors.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { Backend } from '../../shared/protocol/machine.ts';
import { problemSchema } from '../../shared/protocol/wire.ts';
import { BootFile } from '../../vmm/boot/boot-file.ts';
import { entryPath, nodeRuntime } from '../install.ts';
import { cleanEnvironment } from './environment.ts';

/** A KVM that has not answered by then hangs; milliseconds. */
const PROBE_PATIENCE = 30_000;

const probeAnswer = v.object({ usable: v.boolean(), canBootLinux: v.boolean(), problem: v.nullable(problemSchema) });
export type KvmProbe = v.InferOutput<typeof probeAnswer>;

export interface BackendChoice {
  kvm: KvmProbe;
  /** For machines with a Linux kernel, and for freestanding (Multiboot) guests. */
  backend: { linux: Backend; freestanding: Backend };
  forced: boolean;
  /** One line for people; empty when everything runs on KVM because it can. */
  why: string;
}

/** Asks KVM in a child process. Never rejects: a probe that breaks is an answer too. */
export function probeKvm(env: NodeJS.ProcessEnv = process.env): Promise<KvmProbe> {
  const node = nodeRuntime();
  return new Promise((resolve) => {
    execFile(node.path, [entryPath('probe')], { env: { ...cleanEnvironment(env), ...node.env }, timeout: PROBE_PATIENCE, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      try {
        const answer = v.safeParse(probeAnswer, JSON.parse(stdout));
        if (answer.success) {
          resolve(answer.output);
          return;
        }
      } catch {
        // Told below.
      }
      const why = error?.killed === true ? 'the probe hung.' : `the probe ended without an answer (${(stderr.trim().split('\n').at(-1) ?? '') || (error?.message ?? 'no output')}).`;
      resolve({ usable: false, canBootLinux: false, problem: { attempted: 'use the virtualisation of this computer', on: '/dev/kvm', why, remedy: 'Machines run in the lab; --kvm forces KVM.', code: 'kvm-probe' } });
    });
  });
}

/** What VITRINE_BACKEND asks for; null when the probe decides. */
export function forcedBackend(env: NodeJS.ProcessEnv = process.env): Backend | null {
  const asked = env.VITRINE_BACKEND ?? '';
  if (asked === 'kvm' || asked === 'lab') return asked;
  if (asked === '' || asked === 'probe') return null;
  throw new VitrineError({ attempted: 'choose where machines run', on: `VITRINE_BACKEND=${asked}`, why: 'it is neither kvm nor lab.', remedy: 'Set it to one of them, or unset it.', code: 'bad-backend' });
}

/** ": it does not open", without its full stop. */
function clause(problem: Problem | null): string {
  return problem === null ? '' : `: ${problem.why.replace(/\.$/, '')}`;
}

/** Decides from the probe's answer and what was asked for. */
export function choose(kvm: KvmProbe, forced: Backend | null, inLab: boolean): BackendChoice {
  const lab = 'an emulated host, which is slower';
  if (forced === 'kvm') return { kvm, backend: { linux: 'kvm', freestanding: 'kvm' }, forced: true, why: kvm.canBootLinux ? '' : `Machines run on KVM because it was asked for${clause(kvm.problem)}.` };
  if (forced === 'lab') return { kvm, backend: { linux: 'lab', freestanding: 'lab' }, forced: true, why: `Machines run in the lab because it was asked for: ${lab}.` };
  // There is no lab in the lab: what does not work there says so when it is started.
  if (kvm.canBootLinux || inLab) return { kvm, backend: { linux: 'kvm', freestanding: 'kvm' }, forced: false, why: '' };
  if (kvm.usable) {
    return { kvm, backend: { linux: 'lab', freestanding: 'kvm' }, forced: false, why: `This computer's KVM cannot run Linux${clause(kvm.problem)}. Machines with a Linux kernel run in the lab, ${lab}.` };
  }
  return { kvm, backend: { linux: 'lab', freestanding: 'lab' }, forced: false, why: `KVM cannot be used here${clause(kvm.problem)}. Machines run in the lab, ${lab}.` };
}

/** Probes and decides. Rejects only when VITRINE_BACKEND holds nonsense. */
export async function chooseBackend(env: NodeJS.ProcessEnv = process.env): Promise<BackendChoice> {
  const forced = forcedBackend(env);
  return choose(await probeKvm(env), forced, env.VITRINE_IN_LAB === '1');
}

/** Multiboot Specification 0.6.96 §3.1: three 32-bit words in the first 8 KiB, 4-aligned, whose sum is 0. */
const MULTIBOOT_MAGIC = 0x1badb002;
const MULTIBOOT_SEARCH = 8192;

/** Whether the kernel's first bytes hold a Multiboot 1 header: a guest of ours or of kvm-unit-tests, no Linux. */
export function isMultiboot(head: Uint8Array): boolean {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  for (let at = 0; at + 12 <= Math.min(head.length, MULTIBOOT_SEARCH); at += 4) {
    if (view.getUint32(at, true) !== MULTIBOOT_MAGIC) continue;
    if (((MULTIBOOT_MAGIC + view.getUint32(at + 4, true) + view.getUint32(at + 8, true)) & 0xffffffff) === 0) return true;
  }
  return false;
}

/** Opens the machine's kernel and initrd, and says what kind of kernel it is. Throws a VitrineError when one is missing or unreadable. */
export function kernelKind(config: MachineConfig): 'linux' | 'freestanding' {
  if (config.boot.initrd !== undefined) BootFile.open('initrd', config.boot.initrd).close();
  const kernel = BootFile.open('kernel', config.boot.kernel);
  try {
    return isMultiboot(kernel.peek(0, MULTIBOOT_SEARCH)) ? 'freestanding' : 'linux';
  } finally {
    kernel.close();
  }
}
