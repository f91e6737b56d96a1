// The buttons beside a finding: each does one thing, and says which. Some ask for a number or for a file first.
import { useState } from 'react';
import type { Finding } from '../../../shared/host-devices.ts';
import type { RemedyRequest } from '../../../shared/passthrough.ts';
import { bridge } from '../../client/bridge.ts';
import { Button } from '../../components/button.tsx';
import { TextField } from '../../components/field.tsx';
import { useDevicesState } from '../../state/devices.ts';
import { useFront } from '../../state/front.ts';
import { needsHelper, parseFunctions } from '../../state/give-words.ts';
import { runRemedy, useBusyWords, useKnownLeases } from '../../state/leases.ts';
import { hostDevicesOf } from '../../../shared/machine-config.ts';
import styles from './devices.module.css';

type Action = NonNullable<Finding['actions']>[number];

/** The ROM files that were chosen in the wizard, and what chooses one. */
export interface RomPart {
  files: Readonly<Record<string, string>>;
  onFile: (address: string, file: string | undefined) => void;
}

interface OneProps {
  action: Action;
  /** What it is about, as people call it. */
  on: string;
  disabled: boolean;
}

export function RemedyButton({ request, on, label, disabled = false, kind }: { request: RemedyRequest; on: string; label: string; disabled?: boolean; kind?: 'plain' | 'ordinary' }) {
  const busy = useBusyWords(request);
  return (
    <>
      <Button kind={kind} isDisabled={disabled} isPending={busy !== undefined} onPress={() => void runRemedy(request, on)}>{label}</Button>
      {busy !== undefined && busy !== '' && <span className={styles.busy} role="status">{busy}</span>}
    </>
  );
}

function FunctionsField({ action, on, disabled }: OneProps) {
  const { address = '', most = 1, label } = action;
  const [text, setText] = useState(String(Math.min(4, most)));
  const parsed = parseFunctions(text, most);
  const request: RemedyRequest = { verb: 'set-functions', address, count: 'count' in parsed ? parsed.count : 0 };
  const busy = useBusyWords(request);
  return (
    <div className={styles.entry}>
      <TextField
        label="Number of virtual functions" aside={`at most ${most}`} inputMode="numeric" value={text} onChange={setText} isDisabled={disabled} error={'error' in parsed ? parsed.error : undefined} help={busy}
        after={<Button isDisabled={disabled || 'error' in parsed} isPending={busy !== undefined} onPress={() => void runRemedy(request, on)}>{label}</Button>}
      />
    </div>
  );
}

function RomField({ action, rom }: { action: Action; rom: RomPart }) {
  const { address = '', label } = action;
  const chosen = rom.files[address];
  const [text, setText] = useState(chosen ?? '');
  const [open, setOpen] = useState(chosen !== undefined);
  const wrong = text.trim() !== '' && !text.trim().startsWith('/') ? 'Write the whole path, beginning with “/”.' : undefined;
  if (!open) return <Button onPress={() => setOpen(true)}>{label}</Button>;
  const use = (path: string): void => {
    setText(path);
    const file = path.trim();
    rom.onFile(address, file.startsWith('/') ? file : undefined);
  };
  return (
    <div className={styles.entry}>
      <TextField
        label="File with its ROM" mono autoFocus={chosen === undefined} value={text} onChange={use} placeholder="/home/you/card.rom" error={wrong}
        help={text.trim() === '' ? 'Without a file the machine sees the card’s own.' : 'The machine sees this file in the place of the card’s own ROM.'}
        after={bridge.pickFile === undefined ? undefined : <Button onPress={() => void bridge.pickFile?.(label).then((path) => { if (path !== null) use(path); })}>Choose file</Button>}
      />
    </div>
  );
}

function One({ action, on, disabled }: OneProps) {
  const { verb, label, address = '', modules, machine = '' } = action;
  const config = useFront(({ machines }) => machines?.[machine]?.config);
  const group = useKnownGroup(address);
  switch (verb) {
    case 'load-modules': return <RemedyButton label={label} on={on} disabled={disabled} request={{ verb, modules: modules ?? 'vfio' }} />;
    case 'reserve':
    case 'unreserve': return <RemedyButton label={label} on={on} disabled={disabled} request={{ verb, address }} />;
    case 'restore-functions': return <RemedyButton label={label} on={on} disabled={disabled} request={{ verb, address }} />;
    case 'set-functions': return <FunctionsField action={action} on={on} disabled={disabled} />;
    case 'move': {
      // What shares a group goes together.
      const addresses = hostDevicesOf(config).map((each) => each.address).filter((each) => each === address || group.includes(each));
      return <RemedyButton label={label} on={on} disabled={disabled} request={{ verb, from: machine, addresses: addresses.length > 0 ? addresses : [address] }} />;
    }
    case 'ask-rom': return null;
  }
}

/** Addresses of the group of a device, as far as a page knows them. */
function useKnownGroup(address: string): readonly string[] {
  return useDevicesState(({ found }) => {
    const key = found?.devices[address]?.group;
    return key === undefined ? undefined : found?.groups[key]?.devices;
  }) ?? [];
}

/** What can be pressed for a finding here and now. A ROM can be chosen in the wizard alone; where nobody can be asked, commands stand for buttons. */
export function useActions({ actions = [] }: Finding, rom: boolean): Action[] {
  const helper = useKnownLeases()?.helper;
  const nobody = helper?.state === 'installed' && !helper.canAsk;
  return actions.filter(({ verb }) => (verb === 'ask-rom' ? rom : !(nobody && needsHelper(verb))));
}

export interface RemediesProps {
  actions: readonly Action[];
  on: string;
  /** Where a ROM can be chosen: in the wizard. */
  rom?: RomPart;
}

export function Remedies({ actions, on, rom }: RemediesProps) {
  const helper = useKnownLeases()?.helper;
  const offline = useFront(({ status }) => status === 'offline');
  const without = helper !== undefined && helper.state !== 'installed';
  if (actions.length === 0) return null;
  return (
    <div className={styles.remedies}>
      {actions.map((action) => (
        action.verb === 'ask-rom' && rom !== undefined
          ? <RomField key={`rom ${action.address}`} action={action} rom={rom} />
          : <One key={`${action.verb} ${action.address ?? action.modules ?? ''}`} action={action} on={on} disabled={offline || (without && needsHelper(action.verb))} />
      ))}
      {without && actions.some(({ verb }) => needsHelper(verb)) && <p>This needs Vitrine’s helper, which is not set up.</p>}
    </div>
  );
}
