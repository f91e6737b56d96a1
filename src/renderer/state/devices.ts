// The host's devices, cached while a page shows them: the front reads hardware only while somebody watches.
import { useEffect } from 'react';
import { create } from 'zustand';
import type { Problem } from '../../shared/errors.ts';
import type { HostDevices } from '../../shared/host-devices.ts';
import { front, useFront } from './front.ts';

interface DevicesState {
  /** What was read last; kept while the front is away. */
  found: HostDevices | null;
  /** Why the watch ended, if it did. */
  problem: Problem | null;
}

/** What a page that watches the devices knows, for the parts of it. */
export const useDevicesState = create<DevicesState>(() => ({ found: null, problem: null }));

/** The devices, watched while the component that asks is there. */
export function useDevices(): DevicesState {
  const online = useFront(({ status }) => status === 'online');
  useEffect(() => {
    if (!online) return;
    return front().watch('devices', (found) => {
      // A reader that has just begun knows nothing yet: what was seen last stays until it does.
      useDevicesState.setState(({ found: before }) => ({ found: found.state === 'reading' && before !== null ? before : found, problem: null }));
    }, (problem) => {
      if (problem.code !== 'connection-lost') useDevicesState.setState({ problem });
    });
  }, [online]);
  return useDevicesState();
}
