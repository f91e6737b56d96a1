// What pinning a guest's memory for its devices needs of this process: RLIMIT_MEMLOCK, unless it has CAP_IPC_LOCK. VFIO counts every page that
// it pins against the limit, beside what the process has locked otherwise (setrlimit(2), proc(5)).
import { readFileSync } from 'node:fs';
import { VitrineError } from '../../shared/errors.ts';

const CAP_IPC_LOCK = 14;
const MIB = 2 ** 20;
/** Asked for beyond RAM in a remedy: rings and buffers that are locked too. */
const SLACK = 64 * MIB;

export interface LockFacts {
  /** Bytes, Infinity for none. */
  readonly limit: number;
  /** Bytes that are locked now. */
  readonly locked: number;
  /** CAP_IPC_LOCK: the limit does not hold. */
  readonly exempt: boolean;
}

/** Reads /proc/self/limits and /proc/self/status. */
export function readLockFacts(limits = readFileSync('/proc/self/limits', 'latin1'), status = readFileSync('/proc/self/status', 'latin1')): LockFacts {
  const limit = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1] ?? 'unlimited';
  const locked = /^VmLck:\s+(\d+) kB/m.exec(status)?.[1] ?? '0';
  const effective = BigInt(`0x${/^CapEff:\s+([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  return { limit: limit === 'unlimited' ? Infinity : Number(limit), locked: Number(locked) * 1024, exempt: ((effective >> BigInt(CAP_IPC_LOCK)) & 1n) === 1n };
}

const inMiB = (bytes: number): string => `${Math.ceil(bytes / MIB)} MiB`;

/** Throws VitrineError memlock-too-low, with the number that would do. @param ram bytes of guest RAM @param name the machine's */
export function checkMemlock(ram: number, name: string, facts: LockFacts = readLockFacts()): void {
  const needed = ram + facts.locked;
  if (facts.exempt || facts.limit >= needed) return;
  const wanted = Math.ceil((needed + SLACK) / MIB);
  throw new VitrineError({
    attempted: 'give devices to the machine',
    on: name,
    why: `all of its memory must stay in place for them, ${inMiB(needed)}, and your account may lock ${inMiB(facts.limit)} at most.`,
    remedy: `Raise the limit to ${wanted} MiB: put the line "${process.env.USER ?? 'YOU'} - memlock ${wanted * 1024}" into /etc/security/limits.d/vitrine.conf and log in again, or give the machine less memory.`,
    code: 'memlock-too-low',
  });
}
