// What Vitrine has changed on this computer and may change, watched while a page shows it; and what a press of a button does about a
// finding or about something given.
import { useEffect } from 'react';
import { create } from 'zustand';
import type { Leases, RemedyRequest } from '../../shared/passthrough.ts';
import { front, problemOf, useFront } from './front.ts';
import { remedyDone } from './give-words.ts';
import { reportTrouble, sayDone } from './troubles.ts';

const useStore = create<{ leases: Leases | null }>(() => ({ leases: null }));

/** The leases, watched while the component that asks is there; null until they are known. */
export function useLeases(): Leases | null {
  const online = useFront(({ status }) => status === 'online');
  useEffect(() => {
    if (!online) return;
    return front().watch('leases', (leases) => {
      useStore.setState(({ leases: before }) => ({ leases: leases.state === 'reading' ? before : leases }));
    }, (problem) => {
      if (problem.code !== 'connection-lost') reportTrouble(problem);
    });
  }, [online]);
  return useStore(({ leases }) => leases);
}

/** What a page that watches the leases knows, for the parts of it. */
export function useKnownLeases(): Leases | null {
  return useStore(({ leases }) => leases);
}

/** What is being done just now, by its request as text, with how far it is: its buttons wait. */
const useBusy = create<{ busy: Record<string, string>; done: number }>(() => ({ busy: {}, done: 0 }));

/** Another number each time that something was done: what was read before may be another now. */
export function useDoneCount(): number {
  return useBusy(({ done }) => done);
}

/** How far it is, in words; undefined while it is not being done. */
export function useBusyWords(request: RemedyRequest): string | undefined {
  const key = JSON.stringify(request);
  return useBusy(({ busy }) => busy[key]);
}

/** Does it, with a line when it is done; a problem is reported where the person sees it. @returns whether it was done */
export async function runRemedy(request: RemedyRequest, on: string): Promise<boolean> {
  const key = JSON.stringify(request);
  const say = (words: string): void => useBusy.setState(({ busy }) => ({ busy: { ...busy, [key]: words } }));
  if (useBusy.getState().busy[key] !== undefined) return false;
  say('');
  try {
    await front().call('remedy', request, { onProgress: ({ text }) => say(text) });
    useBusy.setState(({ done }) => ({ done: done + 1 }));
    sayDone(remedyDone(request, on));
    return true;
  } catch (thrown) {
    reportTrouble(problemOf(thrown, 'do that', on));
    return false;
  } finally {
    useBusy.setState(({ busy }) => {
      const { [key]: _done, ...rest } = busy;
      return { busy: rest };
    });
  }
}
