// What can be done with a machine besides the obvious, as the items of a menu: the same on a card and in the machine's own bar.
import { AppWindow, CircuitBoard, Cpu, FileText, HardDrive, MonitorPlay, Pause, Pencil, Play, Power, RotateCcw, Trash2, Zap } from 'lucide-react';
import type { LibraryEntry } from '../../shared/protocol/front.ts';
import { bridge } from '../client/bridge.ts';
import { openDialog } from '../state/dialogs.ts';
import { hostDevicesOf } from '../../shared/machine-config.ts';
import { isLive, pauseMachine, resumeMachine, shutDown, startMachine } from '../state/machines.ts';
import { go } from '../state/route.ts';
import { nameOf } from '../state/words.ts';
import { MenuItem, MenuSection, MenuSeparator } from './menu.tsx';

export interface MachineMenuProps {
  entry: LibraryEntry;
  /** Where the menu is: on the machine's own page some of it stands in the bar already. */
  place: 'card' | 'page';
}

function openInWindow(id: string): void {
  if (bridge.openWindow !== undefined) void bridge.openWindow(id);
  else window.open(`${location.pathname}#/machine/${encodeURIComponent(id)}`, '_blank', 'noopener');
}

export function machineMenuItems({ entry, place }: MachineMenuProps) {
  const { id, state } = entry;
  const name = nameOf(entry);
  const live = isLive(state);
  const onCard = place === 'card';
  return (
    <>
      <MenuSection>
        {!live && (state === 'failed' || !onCard) && <MenuItem text="Start" icon={<Play size={16} />} onAction={() => void startMachine(id, name)} />}
        {onCard && <MenuItem text="Open" icon={<MonitorPlay size={16} />} onAction={() => go({ page: 'machine', id, tab: 'screen' })} />}
        <MenuItem text="Open in new window" icon={<AppWindow size={16} />} onAction={() => openInWindow(id)} />
        {onCard && state === 'running' && <MenuItem text="Pause" icon={<Pause size={16} />} onAction={() => void pauseMachine(id, name)} />}
        {onCard && state === 'paused' && <MenuItem text="Resume" icon={<Play size={16} />} onAction={() => void resumeMachine(id, name)} />}
      </MenuSection>
      <MenuSeparator />
      {live ? (
        <MenuSection>
          {onCard && <MenuItem text="Shut down" icon={<Power size={16} />} isDisabled={state !== 'running'} onAction={() => void shutDown(id, name)} />}
          {onCard && <MenuItem text="Disks, network and folders" icon={<HardDrive size={16} />} onAction={() => go({ page: 'machine', id, tab: 'devices' })} />}
          {hostDevicesOf(entry.config).length > 0 && <MenuItem text="Show its devices" icon={<CircuitBoard size={16} />} onAction={() => openDialog({ kind: 'devices', id })} />}
          <MenuItem text="Reset" icon={<RotateCcw size={16} />} isDisabled={state === 'starting'} onAction={() => openDialog({ kind: 'reset', id })} />
          <MenuItem text="Force off" icon={<Zap size={16} />} danger onAction={() => openDialog({ kind: 'force-off', id })} />
        </MenuSection>
      ) : (
        <MenuSection>
          <MenuItem text="Edit settings" icon={<Pencil size={16} />} onAction={() => openDialog({ kind: 'edit', id })} />
          {onCard && <MenuItem text="Disks, network and folders" icon={<HardDrive size={16} />} onAction={() => go({ page: 'machine', id, tab: 'devices' })} />}
          <MenuItem text="Give a device…" icon={<Cpu size={16} />} onAction={() => go({ page: 'give', id, step: 'choose', groups: [] })} />
          {hostDevicesOf(entry.config).length > 0 && <MenuItem text="Show its devices" icon={<CircuitBoard size={16} />} onAction={() => openDialog({ kind: 'devices', id })} />}
          <MenuItem text="Show the log" icon={<FileText size={16} />} onAction={() => openDialog({ kind: 'log', id })} />
          <MenuItem text="Remove" icon={<Trash2 size={16} />} danger onAction={() => openDialog({ kind: 'remove', id })} />
        </MenuSection>
      )}
    </>
  );
}
