// What can be done with machines, in words and in calls, and a hook that keeps the connection to one while a component shows it.
import { useCallback, useEffect, useSyncExternalStore } from 'react';
import { create } from 'zustand';
import type { LibraryEntry, MachineChanges, NewMachine } from '../../shared/protocol/front.ts';
import type { Progress } from '../../shared/protocol/wire.ts';
import { machineLink } from '../client/machine-link.ts';
import type { LinkView, MachineClient, MachineLink } from '../client/machine-link.ts';
import { front, problemOf } from './front.ts';
import { reportTrouble, sayDone } from './troubles.ts';

export type LibraryState = LibraryEntry['state'];

/** Whether a machine process stands behind this state. */
export function isLive(state: LibraryState): boolean {
  return state === 'starting' || state === 'running' || state === 'paused' || state === 'stopping';
}

/** The machine as its process tells it, connected while `wanted`; and the link, for what needs more. */
export function useMachine(id: string, wanted: boolean): LinkView & { source: MachineLink } {
  const source = machineLink(id);
  useEffect(() => (wanted ? source.hold() : undefined), [source, wanted]);
  const view = useSyncExternalStore(useCallback((changed: () => void) => source.subscribe(changed), [source]), () => source.view);
  return { ...view, source };
}

interface Jobs {
  /** Starts under way that this window asked for, by machine, with how far they are. */
  starting: Record<string, { progress: Progress | null; cancel: () => void }>;
}

export const useJobs = create<Jobs>(() => ({ starting: {} }));

function setStarting(id: string, job: Jobs['starting'][string] | null): void {
  useJobs.setState(({ starting }) => {
    const { [id]: _old, ...others } = starting;
    return { starting: job === null ? others : { ...others, [id]: job } };
  });
}

/** Starts a machine; true once it answers. A problem is reported where the person sees it. */
export async function startMachine(id: string, name: string): Promise<boolean> {
  if (useJobs.getState().starting[id] !== undefined) return false;
  const abort = new AbortController();
  const cancel = (): void => abort.abort();
  setStarting(id, { progress: null, cancel });
  try {
    await front().call('startMachine', { id }, { signal: abort.signal, onProgress: (progress) => setStarting(id, { progress, cancel }) });
    return true;
  } catch (thrown) {
    reportTrouble(problemOf(thrown, 'start the machine', name), id);
    return false;
  } finally {
    setStarting(id, null);
  }
}

/** Runs something on a machine's own connection, opened for it if need be. */
async function onMachine(id: string, attempted: string, name: string, run: (client: MachineClient) => Promise<unknown>): Promise<boolean> {
  const source = machineLink(id);
  const release = source.hold();
  try {
    await run(await source.opened());
    return true;
  } catch (thrown) {
    reportTrouble(problemOf(thrown, attempted, name), id);
    return false;
  } finally {
    release();
  }
}

export function pauseMachine(id: string, name: string): Promise<boolean> {
  return onMachine(id, 'pause the machine', name, (client) => client.call('pause', {}));
}

export function resumeMachine(id: string, name: string): Promise<boolean> {
  return onMachine(id, 'resume the machine', name, (client) => client.call('resume', {}));
}

export function resetMachine(id: string, name: string): Promise<boolean> {
  return onMachine(id, 'reset the machine', name, (client) => client.call('reset', {}));
}

export function forceOff(id: string, name: string): Promise<boolean> {
  return onMachine(id, 'force the machine off', name, async (client) => {
    try {
      await client.call('forceOff', {});
    } catch (thrown) {
      // The machine may be gone before its answer is: that is what was asked for.
      if (problemOf(thrown, '', '').code !== 'connection-lost') throw thrown;
    }
  });
}

export async function shutDown(id: string, name: string): Promise<void> {
  const asked = await onMachine(id, 'ask the guest to shut down', name, (client) => client.call('powerButton', {}));
  if (asked) sayDone(`Asked ${name} to shut down. A guest that does not listen can be forced off.`);
}

export function sendKeys(id: string, name: string, codes: number[]): Promise<boolean> {
  return onMachine(id, 'send keys to the guest', name, (client) => client.call('sendKeys', { codes }));
}

export async function createMachine(config: NewMachine): Promise<string> {
  return (await front().call('createMachine', config)).id;
}

export async function updateMachine(id: string, changes: MachineChanges): Promise<void> {
  await front().call('updateMachine', { id, changes });
}

export async function removeMachine(id: string, name: string): Promise<boolean> {
  try {
    await front().call('removeMachine', { id });
    return true;
  } catch (thrown) {
    reportTrouble(problemOf(thrown, 'remove the machine', name), id);
    return false;
  }
}
