// Getting a vCPU out of KVM_RUN: immediate_exit, then a signal whose handler does nothing and has no SA_RESTART. (Documentation/virt/kvm/api.rst,
// "immediate_exit".) Whoever kicks has set a request word first; the vCPU clears immediate_exit before it reads that word, so none is lost.
import koffi from 'koffi';
import { nativeLibrary } from './entry.ts';

const SIGRTMIN = 34;
/** SIGRTMIN+6: far from what glibc and V8 use. */
export const KICK_SIGNAL = SIGRTMIN + 6;

const native = koffi.load(nativeLibrary());
const installKick = native.func('int vitrine_install_kick(int signal)') as (signal: number) => number;
const gettid = native.func('int vitrine_gettid(void)') as () => number;
const tgkill = native.func('int vitrine_tgkill(int process, int thread, int signal)') as (process: number, thread: number, signal: number) => number;

/** Once a process, before any vCPU runs. */
export function installKickHandler(): void {
  if (installKick(KICK_SIGNAL) !== 0) throw new Error(`the signal handler for kicks could not be installed`);
}

/** The calling thread's id. */
export const threadId = (): number => gettid();

export function signalThread(thread: number): void {
  tgkill(process.pid, thread, KICK_SIGNAL);
}
