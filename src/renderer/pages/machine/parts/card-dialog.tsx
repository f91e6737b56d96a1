// A network card for a machine: where its cable leads, and which ports of this computer lead into the guest. While the machine runs, the ports alone
// can be changed.
import { useState } from 'react';
import { Plus, X } from 'lucide-react';
import { Button, IconButton } from '../../../components/button.tsx';
import { OneOfField } from '../../../components/check.tsx';
import { TextField } from '../../../components/field.tsx';
import { SelectField } from '../../../components/select.tsx';
import type { LibraryEntry } from '../../../../shared/protocol/front.ts';
import { front } from '../../../state/front.ts';
import { isLive } from '../../../state/machines.ts';
import { cardDevice, cardFormOf, cardIsRight, checkCard, emptyCardForm, emptyForward } from '../../../state/part-forms.ts';
import type { CardErrors, CardForm, ForwardForm } from '../../../state/part-forms.ts';
import { cardWords, placedDevices } from '../../../state/parts.ts';
import type { Card } from '../../../state/parts.ts';
import { FormDialog } from './form-dialog.tsx';
import styles from './parts.module.css';

const KINDS = [
  { value: 'user', text: 'User-mode network', help: 'Out through this computer’s own connections, by passt. Needs no rights. Nobody reaches the guest but by forwarded ports.' },
  { value: 'tap', text: 'An interface of this computer', help: 'A TAP interface that was prepared for you, such as one on a bridge.' },
  { value: 'none', text: 'Not connected', help: 'A card without a cable.' },
] as const;
const PROTOCOLS = [{ value: 'tcp', text: 'TCP' }, { value: 'udp', text: 'UDP' }] as const;

interface ForwardsProps {
  forwards: ForwardForm[];
  errors: CardErrors['forwards'];
  shown: (key: number) => boolean;
  onChange: (forwards: ForwardForm[], key?: number) => void;
}

function Forwards({ forwards, errors, shown, onChange }: ForwardsProps) {
  const change = (key: number, changes: Partial<ForwardForm>): void => onChange(forwards.map((each) => (each.key === key ? { ...each, ...changes } : each)), key);
  return (
    <section className={styles.forwards} role="group" aria-labelledby="card-forwards">
      <h3 id="card-forwards">Forwarded ports</h3>
      {forwards.length > 0 && (
        <div className={styles.forwardHead} aria-hidden>
          <span>Protocol</span><span>Port here</span><span>Port in the guest</span><span>Address here</span>
        </div>
      )}
      {forwards.map(({ key, protocol, address, host, guest }, index) => {
        const wrong = shown(key) ? errors[key] : undefined;
        const nth = `of forward ${index + 1}`;
        return (
          <div key={key} className={styles.forward}>
            <SelectField label={`Protocol ${nth}`} bare choices={PROTOCOLS} value={protocol} onChange={(value) => change(key, { protocol: value })} />
            <TextField label={`Port here ${nth}`} bare inputMode="numeric" placeholder="2222" value={host} onChange={(value) => change(key, { host: value })} error={wrong?.host} />
            <TextField label={`Port in the guest ${nth}`} bare inputMode="numeric" placeholder="22" value={guest} onChange={(value) => change(key, { guest: value })} error={wrong?.guest} />
            <TextField label={`Address here ${nth}`} bare placeholder="127.0.0.1" value={address} onChange={(value) => change(key, { address: value })} error={wrong?.address} />
            <IconButton label={`Remove forward ${index + 1}`} onPress={() => onChange(forwards.filter((each) => each.key !== key))}><X size={16} aria-hidden /></IconButton>
          </div>
        );
      })}
      <div><Button onPress={() => onChange([...forwards, emptyForward()])}><Plus size={16} aria-hidden />Forward a port</Button></div>
    </section>
  );
}

export interface CardDialogProps {
  entry: LibraryEntry;
  card?: Card;
  onClose: () => void;
}

export function CardDialog({ entry, card, onClose }: CardDialogProps) {
  const { id } = entry;
  const live = isLive(entry.state) && card !== undefined;
  const [form, setForm] = useState<CardForm>(() => (card === undefined ? emptyCardForm : cardFormOf(card)));
  const [touched, setTouched] = useState<ReadonlySet<string>>(new Set());
  const errors = checkCard(form, placedDevices(entry.config).filter(({ slot }) => slot !== card?.slot));
  const change = (changes: Partial<CardForm>, touch?: string): void => {
    setForm((old) => ({ ...old, ...changes }));
    if (touch !== undefined) setTouched((old) => new Set(old).add(touch));
  };
  const submit = async (): Promise<void> => {
    const device = cardDevice(form, card);
    if (card === undefined) await front().call('addDevice', { id, device });
    else if (!live) await front().call('replaceDevice', { id, slot: card.slot, device });
    else if (device.kind === 'virtio-net' && device.backend.kind === 'user') await front().call('changeDevice', { id, slot: card.slot, change: { kind: 'forwards', forwards: device.backend.forwards } });
  };
  const adding = card === undefined;
  return (
    <FormDialog
      title={adding ? 'Add a network card' : live ? 'Forwarded ports' : 'Settings of the network card'} lede={live ? 'They hold at once. Connections that are open now are lost.' : adding ? undefined : 'They hold from the next start.'}
      action={adding ? 'Add network card' : live ? 'Forward these ports' : 'Save settings'} attempted={adding ? 'add the network card' : 'change the network card'} on={cardWords({ backend: card?.backend ?? { kind: 'none' } })}
      right={cardIsRight(errors)} submit={submit} onClose={onClose}
    >
      {({ all }) => (
        <>
          {!live && <OneOfField label="Network" choices={KINDS} value={form.kind} onChange={(kind) => change({ kind })} />}
          {form.kind === 'tap' && (
            <div className={styles.pair}>
              <TextField label="Interface" mono placeholder="tap0" value={form.name} onChange={(name) => change({ name }, 'name')} error={all || touched.has('name') ? errors.name : undefined} help="As “ip link” calls it." />
              <TextField label="Queues" inputMode="numeric" value={form.queues} onChange={(queues) => change({ queues }, 'queues')} error={all || touched.has('queues') ? errors.queues : undefined} help="1, or up to the CPUs." />
            </div>
          )}
          {form.kind === 'user' && (
            <Forwards
              forwards={form.forwards} errors={errors.forwards} shown={(key) => all || touched.has(`forward ${key}`)}
              onChange={(forwards, key) => change({ forwards }, key === undefined ? undefined : `forward ${key}`)}
            />
          )}
          {!live && <TextField label="MAC address" aside="optional" mono placeholder="52:54:00:12:34:56" value={form.mac} onChange={(mac) => change({ mac }, 'mac')} error={all || touched.has('mac') ? errors.mac : undefined} help="One of the machine’s own unless told, the same at every start." />}
        </>
      )}
    </FormDialog>
  );
}
