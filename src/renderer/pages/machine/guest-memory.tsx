// What the guest uses of its memory, in the bar below its screen: known when it has a balloon whose driver runs.
import { useEffect, useState } from 'react';
import type { MachineLink } from '../../client/machine-link.ts';
import type { GuestMemoryStats, MachineState } from '../../../shared/protocol/machine.ts';
import { memoryWords } from '../../state/words.ts';

export function GuestMemory({ source, machine }: { source: MachineLink; machine: MachineState }) {
  const { balloon } = machine;
  const present = balloon !== undefined;
  const [guest, setGuest] = useState<GuestMemoryStats | undefined>(undefined);
  useEffect(() => {
    if (!present) return undefined;
    const end = source.onOpen((client) => client.watch('stats', (stats) => setGuest(stats.guest), () => {}));
    return () => {
      end();
      setGuest(undefined);
    };
  }, [source, present]);
  if (balloon === undefined) return null;
  const given = balloon.actual < machine.memory ? `It has ${memoryWords(balloon.actual)} of ${memoryWords(machine.memory)}; the rest is the host’s for now.` : undefined;
  const why = balloon.off ? 'A device is passed through and needs all of the guest’s memory where it is, so the balloon is off.' : given;
  const left = guest?.available ?? guest?.free;
  if (guest === undefined || left === undefined) return balloon.off || given !== undefined ? <span title={why}>{balloon.off ? 'Balloon off' : `Memory ${memoryWords(balloon.actual)}`}</span> : null;
  return <span title={why} data-testid="guest-memory">Memory {memoryWords(Math.max(0, guest.total - left))} of {memoryWords(guest.total)} used{balloon.off ? ', balloon off' : ''}</span>;
}
