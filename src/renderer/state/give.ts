// Giving devices to one machine: its devices as they are judged for it, the plan of what would change, kept up to date while one looks, and
// the giving itself, which goes on when its page is left.
import { useCallback, useEffect, useRef, useState } from 'react';
import { create } from 'zustand';
import type { Problem } from '../../shared/errors.ts';
import type { HostDevices } from '../../shared/host-devices.ts';
import type { GiveChoice, Plan } from '../../shared/passthrough.ts';
import type { Progress } from '../../shared/protocol/wire.ts';
import { useDevices } from './devices.ts';
import { front, problemOf, useFront } from './front.ts';
import { useDoneCount, useLeases } from './leases.ts';

export interface Judged {
  found: HostDevices | null;
  problem: Problem | null;
}

/** The devices as they are for this machine, read anew whenever the hardware, the machine or what is given changes. */
export function useDevicesFor(id: string): Judged {
  const live = useDevices();
  const leases = useLeases();
  const done = useDoneCount();
  const config = useFront(({ machines }) => machines?.[id]?.config);
  const [judged, setJudged] = useState<Judged>({ found: null, problem: null });
  const ready = live.found !== null && live.found.state !== 'reading';
  useEffect(() => {
    if (!ready || config === undefined) return;
    const abort = new AbortController();
    const read = async (): Promise<void> => {
      try {
        const found = await front().call('devicesFor', { id }, { signal: abort.signal });
        if (!abort.signal.aborted) setJudged({ found, problem: null });
      } catch (thrown) {
        if (!abort.signal.aborted) setJudged(({ found }) => ({ found, problem: problemOf(thrown, 'read the devices', '') }));
      }
    };
    void read();
    return () => abort.abort();
  }, [id, ready, live.found, config, leases, done]);
  return live.problem !== null && judged.problem === null ? { ...judged, problem: live.problem } : judged;
}

export interface Planned {
  plan: Plan | null;
  problem: Problem | null;
  /** The plan is being made for what is chosen now; `plan` may be of what was chosen before. */
  pending: boolean;
  /** The computer has changed since the plan was first shown. */
  changed: boolean;
  /** Makes it anew. @param changed say that the computer has changed */
  again: (changed: boolean) => void;
}

/** The plan for a choice, made anew when `basis` is another. No choice, no plan. */
export function usePlan(choice: GiveChoice | null, basis: unknown): Planned {
  const key = choice === null ? '' : JSON.stringify(choice);
  const [shown, setShown] = useState<{ key: string; plan: Plan | null; problem: Problem | null; changed: boolean }>({ key: '', plan: null, problem: null, changed: false });
  const [turn, setTurn] = useState(0);
  const told = useRef(false);
  useEffect(() => {
    if (key === '') return;
    const abort = new AbortController();
    const make = async (): Promise<void> => {
      try {
        const plan = await front().call('planDevices', JSON.parse(key) as GiveChoice, { signal: abort.signal });
        if (abort.signal.aborted) return;
        setShown((old) => ({
          key, plan, problem: null,
          changed: told.current || (old.key === key && (old.changed || (old.plan !== null && old.plan.digest !== plan.digest))),
        }));
        told.current = false;
      } catch (thrown) {
        if (!abort.signal.aborted) setShown((old) => ({ key, plan: old.key === key ? old.plan : null, problem: problemOf(thrown, 'make the plan', ''), changed: false }));
      }
    };
    void make();
    return () => abort.abort();
  }, [key, basis, turn]);
  const again = useCallback((changed: boolean) => {
    told.current = changed;
    setTurn((old) => old + 1);
  }, []);
  if (key === '') return { plan: null, problem: null, pending: false, changed: false, again };
  return { plan: shown.plan, problem: shown.problem, pending: shown.key !== key, changed: shown.changed, again };
}

export interface Giving {
  /** What is given, as people call it. */
  what: string;
  addresses: readonly string[];
  mode: GiveChoice['mode'];
  state: 'giving' | 'given' | 'failed' | 'cancelled';
  /** Lines of what was done, as they came; the last one is at work while it is 'giving'. */
  lines: string[];
  progress: Progress | null;
  /** Why it failed; when it is 'given', why the machine may not have them without a password. */
  problem?: Problem;
  /** The machine may have them without a password from now on. */
  granted: boolean;
  cancel: () => void;
}

/** By machine. */
export const useGiving = create<{ giving: Record<string, Giving> }>(() => ({ giving: {} }));

function set(id: string, change: Partial<Giving>): void {
  useGiving.setState(({ giving }) => (giving[id] === undefined ? { giving } : { giving: { ...giving, [id]: { ...giving[id], ...change } } }));
}

export function forgetGiving(id: string): void {
  useGiving.setState(({ giving }) => {
    const { [id]: _old, ...rest } = giving;
    return { giving: rest };
  });
}

/**
 * Does what the plan showed. With `grant`, the machine may have its devices without a password from then on, which is asked for once it has
 * them; a person who says no to that has given them all the same.
 * @returns 'changed' when the plan is another by now and nothing was done
 */
export async function give(choice: GiveChoice, plan: Plan, what: string, grant: boolean): Promise<'ended' | 'changed'> {
  const { id } = choice;
  const abort = new AbortController();
  const start: Giving = { what, addresses: plan.devices, mode: choice.mode, state: 'giving', lines: [], progress: null, granted: false, cancel: () => abort.abort() };
  useGiving.setState(({ giving }) => ({ giving: { ...giving, [id]: start } }));
  const onProgress = (progress: Progress): void => {
    const { lines } = useGiving.getState().giving[id] ?? start;
    set(id, { progress, lines: lines.at(-1) === progress.text || progress.text === '' ? lines : [...lines, progress.text] });
  };
  try {
    await front().call('giveDevices', { ...choice, digest: plan.digest }, { signal: abort.signal, onProgress });
  } catch (thrown) {
    const problem = problemOf(thrown, 'give the devices', what);
    if (problem.code === 'plan-changed') {
      forgetGiving(id);
      return 'changed';
    }
    set(id, problem.code === 'cancelled' ? { state: 'cancelled', progress: null } : { state: 'failed', problem, progress: null });
    return 'ended';
  }
  if (grant) {
    try {
      await front().call('remedy', { verb: 'grant', id, addresses: plan.devices }, { signal: abort.signal, onProgress });
      set(id, { granted: true });
    } catch (thrown) {
      set(id, { problem: problemOf(thrown, 'allow the devices without a password', what) });
    }
  }
  set(id, { state: 'given', progress: null });
  return 'ended';
}
