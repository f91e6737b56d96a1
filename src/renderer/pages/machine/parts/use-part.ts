// A change of a machine's devices that is under way, and what came of the last one.
import { useState } from 'react';
import type { Problem } from '../../../../shared/errors.ts';
import type { FrontProtocol } from '../../../../shared/protocol/front.ts';
import type { ProtocolClient } from '../../../../shared/protocol/client.ts';
import { front, problemOf } from '../../../state/front.ts';

export interface Failed {
  problem: Problem;
  /** The device that the guest did not give back. */
  stuck?: { slot: number; what: string };
}

export interface PartJobs {
  /** What is under way: "remove 3"; '' when nothing is. */
  busy: string;
  failed: Failed | null;
  dismiss: () => void;
  /** True when it is done. */
  run: (what: string, attempted: string, on: string, work: (client: ProtocolClient<FrontProtocol>) => Promise<unknown>, stuck?: Failed['stuck']) => Promise<boolean>;
}

export function usePartJobs(): PartJobs {
  const [busy, setBusy] = useState('');
  const [failed, setFailed] = useState<Failed | null>(null);
  return {
    busy,
    failed,
    dismiss: () => setFailed(null),
    run: async (what, attempted, on, work, stuck) => {
      setBusy(what);
      setFailed(null);
      try {
        await work(front());
        return true;
      } catch (thrown) {
        const problem = problemOf(thrown, attempted, on);
        const asked = problem.code === 'guest-does-not-respond' || problem.code === 'guest-does-not-listen';
        const remedy = 'By force it goes at once; a guest that uses it may not bear that.';
        setFailed(asked && stuck !== undefined ? { problem: { ...problem, on: stuck.what, remedy }, stuck } : { problem });
        return false;
      } finally {
        setBusy('');
      }
    },
  };
}

/** Problems that are about the file or the folder in the form: they stand at its field. */
export function atPath({ code }: Problem): boolean {
  return /^(disk|medium|folder|image)-/.test(code) && code !== 'image-shrink' && code !== 'image-size';
}

/** What a problem says at a field. */
export function fieldWords({ why, remedy }: Problem): string {
  const words = `${why} ${remedy}`.trim();
  return words.charAt(0).toLocaleUpperCase() + words.slice(1);
}
