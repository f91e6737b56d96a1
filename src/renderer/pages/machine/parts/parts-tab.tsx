// The devices of a machine: its disks, CD drives, network cards, shared folders and the rest, each with what can be done with it now. What works
// while the machine runs works at once; what needs it off says so.
import { useState } from 'react';
import type { ReactNode } from 'react';
import { CircleAlert, CircuitBoard, Disc, Ellipsis, FolderOpen, HardDrive, Keyboard, Network, Plus, TriangleAlert } from 'lucide-react';
import type { LucideIcon } from 'lucide-react';
import type { LibraryEntry } from '../../../../shared/protocol/front.ts';
import { Button, IconButton } from '../../../components/button.tsx';
import { Copied } from '../../../components/copied.tsx';
import { Menu, MenuItem, MenuSection } from '../../../components/menu.tsx';
import { ProblemNotice } from '../../../components/notice.tsx';
import { Switch } from '../../../components/switch.tsx';
import { openDialog } from '../../../state/dialogs.ts';
import { useFront } from '../../../state/front.ts';
import { listWords } from '../../../state/give-words.ts';
import { machineDevices } from '../../../state/machine-devices.ts';
import { useAddresses, useImages } from '../../../state/machine-parts.ts';
import { isLive } from '../../../state/machines.ts';
import { addableOthers, cardWords, diskWords, fileName, forwardLine, imageTrouble, mountCommand, othersWith, otherWords, partsOf, settingWords } from '../../../state/parts.ts';
import type { Card, CdPart, DiskPart, OtherDevice, Share } from '../../../state/parts.ts';
import { go } from '../../../state/route.ts';
import { asSentence, nameOf } from '../../../state/words.ts';
import { CardDialog } from './card-dialog.tsx';
import { DiskDialog, ResizeDialog } from './disk-dialog.tsx';
import { MediumDialog } from './medium-dialog.tsx';
import { ShareDialog } from './share-dialog.tsx';
import { usePartJobs } from './use-part.ts';
import type { PartJobs } from './use-part.ts';
import styles from './parts.module.css';

type Dialog =
  | { kind: 'new' | 'existing' | 'overlay' }
  | { kind: 'disk'; part: DiskPart }
  | { kind: 'resize'; part: DiskPart; bytes: number }
  | { kind: 'drive' }
  | { kind: 'medium'; drive: CdPart }
  | { kind: 'card'; card?: Card }
  | { kind: 'share'; share?: Share };

interface Place {
  entry: LibraryEntry;
  live: boolean;
  /** Nothing can be asked for now: the server is away, or the machine comes or goes. */
  still: boolean;
  jobs: PartJobs;
  open: (dialog: Dialog) => void;
  remove: (slot: number, what: string) => void;
}

function Section({ title, add, empty, children }: { title: string; add?: ReactNode; empty: string; children: ReactNode[] }) {
  return (
    <section className={styles.section} aria-label={title}>
      <div className={styles.head}><h2>{title}</h2>{add}</div>
      {children.length === 0 ? <p className={styles.empty}>{empty}</p> : <ul className={styles.list} aria-label={title}>{children}</ul>}
    </section>
  );
}

function Row({ sign: Sign, name, title, children, actions }: { sign: LucideIcon; /** What the row is called for those who listen. */ name: string; title: ReactNode; children?: ReactNode; actions: ReactNode }) {
  return (
    <li className={styles.row} aria-label={name}>
      <Sign size={18} aria-hidden />
      <div className={styles.words}><h3>{title}</h3>{children}</div>
      <div className={styles.actions}>{actions}</div>
    </li>
  );
}

function Trouble({ children }: { children: ReactNode }) {
  return <p className={styles.trouble}><CircleAlert size={14} aria-hidden /><span>{children}</span></p>;
}

function Care({ children }: { children: ReactNode }) {
  return <p className={styles.care}><TriangleAlert size={14} aria-hidden /><span>{children}</span></p>;
}

const OFF = 'Only while it is off';

function More({ name, children }: { name: string; children: ReactNode }) {
  return (
    <Menu label={`More for ${name}`} trigger={<IconButton label={`More for ${name}`}><Ellipsis size={18} aria-hidden /></IconButton>}>
      <MenuSection>{children}</MenuSection>
    </Menu>
  );
}

/** Taken out of the machine: a running guest is asked for it, and it is waited for. */
function RemoveButton({ place: { still, jobs, remove }, slot, what, isDisabled = false }: { place: Place; slot: number; what: string; isDisabled?: boolean }) {
  const going = jobs.busy === `remove ${slot}`;
  return <Button aria-label={`Remove ${what}`} isPending={going} isDisabled={still || isDisabled || (jobs.busy !== '' && !going)} onPress={() => remove(slot, what)}>{going ? 'Asking the guest' : 'Remove'}</Button>;
}

function Users({ file, id }: { file: string; id: string }) {
  const users = useFront((state) => state.machines);
  const others = othersWith(users, file, id);
  if (others.length === 0) return null;
  const running = others.filter(({ live }) => live);
  const names = listWords((running.length > 0 ? running : others).map(({ name }) => name));
  return running.length > 0 ? <Care>In use by {names}, which runs.</Care> : <p>Also in {names}.</p>;
}

function Disks({ place, disks }: { place: Place; disks: DiskPart[] }) {
  const { entry, live, still, open, jobs } = place;
  const looks = useImages(disks.map(({ disk }) => ({ file: disk.file, ...(disk.format === undefined ? {} : { format: disk.format }) })), entry.config);
  const add = (
    <Menu label="Add a disk" trigger={<Button isDisabled={still || jobs.busy !== ''}><Plus size={16} aria-hidden />Add a disk</Button>}>
      <MenuSection>
        <MenuItem text="New disk…" onAction={() => open({ kind: 'new' })} />
        <MenuItem text="Existing image…" onAction={() => open({ kind: 'existing' })} />
        <MenuItem text="Overlay of an image…" onAction={() => open({ kind: 'overlay' })} />
      </MenuSection>
    </Menu>
  );
  return (
    <Section title="Disks" add={add} empty="No disks. What a guest should keep goes on one.">
      {disks.map((part) => {
        const { slot, disk, at } = part;
        const name = fileName(disk.file);
        const look = looks[disk.file];
        const trouble = imageTrouble(look);
        const settings = settingWords(disk);
        const image = look !== undefined && 'disk' in look ? look.disk : undefined;
        const only = at === undefined || at.controller.drives.length === 1;
        return (
          <Row
            key={`${slot}.${at?.drive ?? 0}`} sign={HardDrive} name={name} title={name}
            actions={<>
              <RemoveButton place={place} slot={slot} what={name} isDisabled={!only} />
              <More name={name}>
                <MenuItem text="Settings…" shortcut={live ? OFF : undefined} isDisabled={live || still} onAction={() => open({ kind: 'disk', part })} />
                <MenuItem text="Resize…" shortcut={live ? OFF : undefined} isDisabled={live || still || image?.allocated === undefined} onAction={() => open({ kind: 'resize', part, bytes: image?.bytes ?? 0 })} />
              </More>
            </>}
          >
            <p><code className={styles.path}>{disk.file}</code></p>
            <p>{[image === undefined ? '' : diskWords(image), settings, at === undefined ? '' : 'on a SCSI controller'].filter((each) => each !== '').join(', ') || ' '}</p>
            {trouble !== null && <Trouble>{asSentence(trouble)}</Trouble>}
            {image?.dirty === true && !live && <Care>It was not closed: it is looked through when the machine starts.</Care>}
            <Users file={disk.file} id={entry.id} />
          </Row>
        );
      })}
    </Section>
  );
}

function Drives({ place, drives }: { place: Place; drives: CdPart[] }) {
  const { entry, live, still, open, jobs } = place;
  const looks = useImages(drives.flatMap(({ file }) => (file === null ? [] : [{ file, format: 'raw' as const }])), entry.config);
  const takeOut = (drive: CdPart, name: string): void => {
    const { controller, drive: number, slot } = drive;
    if (controller.drives.length === 1) place.remove(slot, name);
    else void jobs.run(`remove ${slot}`, 'remove the CD drive', name, (client) => client.call('replaceDevice', { id: entry.id, slot, device: { ...controller, drives: controller.drives.filter((_, index) => index !== number) } }));
  };
  return (
    <Section title="CD drives" add={<Button isDisabled={still || jobs.busy !== ''} onPress={() => open({ kind: 'drive' })}><Plus size={16} aria-hidden />Add a CD drive</Button>} empty="No CD drives.">
      {drives.map((drive, index) => {
        const { slot, file, controller } = drive;
        const name = `CD drive ${index + 1}`;
        const look = file === null ? undefined : looks[file];
        const trouble = imageTrouble(look);
        const busy = jobs.busy !== '' || still;
        return (
          <Row
            key={`${slot}.${drive.drive}`} sign={Disc} name={name} title={file === null ? `${name}, empty` : fileName(file)}
            actions={<>
              <Button aria-label={`Insert a CD into ${name}`} isDisabled={busy} onPress={() => open({ kind: 'medium', drive })}>{file === null ? 'Insert' : 'Change'}</Button>
              <Button
                aria-label={`Eject ${name}`} isDisabled={busy || file === null}
                onPress={() => void jobs.run(`eject ${slot}`, 'eject the CD', fileName(file ?? ''), (client) => client.call('changeDevice', { id: entry.id, slot, change: { kind: 'medium', drive: drive.drive, file: null } }))}
              >Eject</Button>
              <More name={name}>
                <MenuItem text="Remove the drive" danger shortcut={live && controller.drives.length > 1 ? OFF : undefined} isDisabled={busy || (live && controller.drives.length > 1)} onAction={() => takeOut(drive, name)} />
              </More>
            </>}
          >
            {file !== null && <p><code className={styles.path}>{file}</code></p>}
            {look !== undefined && 'disk' in look && <p>{diskWords(look.disk)}</p>}
            {trouble !== null && <Trouble>{asSentence(trouble)}</Trouble>}
          </Row>
        );
      })}
    </Section>
  );
}

function Cards({ place, cards }: { place: Place; cards: Card[] }) {
  const { entry, live, still, open, jobs } = place;
  const addresses = useAddresses(entry.id, cards.map(({ slot, mac }) => mac ?? slot));
  return (
    <Section title="Network" add={<Button isDisabled={still || jobs.busy !== ''} onPress={() => open({ kind: 'card' })}><Plus size={16} aria-hidden />Add a network card</Button>} empty="No network cards.">
      {cards.map((card, index) => {
        const { slot, backend, linkUp } = card;
        const name = cards.length === 1 ? 'the network card' : `network card ${index + 1}`;
        const ports = backend.kind === 'user' ? backend.forwards : [];
        const fixed = live && backend.kind !== 'user';
        return (
          <Row
            key={slot} sign={Network} name={cardWords(card)} title={cardWords(card)}
            actions={<>
              {backend.kind !== 'none' && (
                <Switch
                  label={`Cable of ${name}`} isSelected={linkUp} isDisabled={still || jobs.busy !== ''}
                  onChange={(up) => void jobs.run(`link ${slot}`, up ? 'plug the cable in' : 'pull the cable', cardWords(card), (client) => client.call('changeDevice', { id: entry.id, slot, change: { kind: 'link', up } }))}
                >{linkUp ? 'Plugged in' : 'Unplugged'}</Switch>
              )}
              <RemoveButton place={place} slot={slot} what={name} />
              <More name={name}>
                <MenuItem text={live && !fixed ? 'Forwarded ports…' : 'Settings…'} shortcut={fixed ? OFF : undefined} isDisabled={still || fixed} onAction={() => open({ kind: 'card', card })} />
              </More>
            </>}
          >
            <p>MAC <code className={styles.path}>{addresses[slot] ?? card.mac ?? ''}</code></p>
            {ports.length > 0 && <p className={styles.ports}>{ports.map((forward) => <code key={forwardLine(forward)}>{forwardLine(forward)}</code>)}</p>}
            {live && entry.backend === 'lab' && ports.length > 0 && <Care>The machine runs in the lab: its ports are forwarded there, not on this computer.</Care>}
          </Row>
        );
      })}
    </Section>
  );
}

function Shares({ place, shares }: { place: Place; shares: Share[] }) {
  const { live, still, open, jobs } = place;
  return (
    <Section title="Shared folders" add={<Button isDisabled={still || jobs.busy !== ''} onPress={() => open({ kind: 'share' })}><Plus size={16} aria-hidden />Share a folder</Button>} empty="No shared folders.">
      {shares.map((share) => {
        const { slot, tag, folder, readonly } = share;
        return (
          <Row
            key={slot} sign={FolderOpen} name={tag} title={tag}
            actions={<>
              <RemoveButton place={place} slot={slot} what={tag} />
              <More name={tag}>
                <MenuItem text="Settings…" shortcut={live ? OFF : undefined} isDisabled={live || still} onAction={() => open({ kind: 'share', share })} />
              </More>
            </>}
          >
            <p><code className={styles.path}>{folder}</code>{readonly && ', read-only'}</p>
            <Copied text={mountCommand(share)} what="the mount command" />
          </Row>
        );
      })}
    </Section>
  );
}

function Others({ place, others }: { place: Place; others: OtherDevice[] }) {
  const { entry, still, jobs } = place;
  const machines = useFront((state) => state.machines);
  const addable = addableOthers(partsOf(entry.config), machines);
  const given = machineDevices(entry, null).length > 0;
  const add = addable.length === 0 ? undefined : (
    <Menu label="Add a device" trigger={<Button isDisabled={still || jobs.busy !== ''}><Plus size={16} aria-hidden />Add a device</Button>}>
      <MenuSection>
        {addable.map(({ text, device }) => <MenuItem key={text} text={text} onAction={() => void jobs.run('add', 'add the device', text, (client) => client.call('addDevice', { id: entry.id, device }))} />)}
      </MenuSection>
    </Menu>
  );
  return (
    <Section title="Other devices" add={add} empty="No other devices.">
      {others.map((device) => {
        const { name, use } = otherWords(device);
        return (
          <Row key={device.slot} sign={device.kind === 'virtio-input' ? Keyboard : CircuitBoard} name={name} title={name} actions={<RemoveButton place={place} slot={device.slot} what={name} />}>
            <p>{use}</p>
            {device.kind === 'virtio-balloon' && given && <Care>Off while the machine has a device of this computer.</Care>}
          </Row>
        );
      })}
    </Section>
  );
}

function HostDevices({ entry, live }: { entry: LibraryEntry; live: boolean }) {
  const devices = machineDevices(entry, null);
  return (
    <section className={styles.section} aria-label="Devices of this computer">
      <div className={styles.head}>
        <h2>Devices of this computer</h2>
        {devices.length > 0 && <Button onPress={() => openDialog({ kind: 'devices', id: entry.id })}>Show them</Button>}
        <Button isDisabled={live} onPress={() => go({ page: 'give', id: entry.id, step: 'choose', groups: [] })}>Give a device…</Button>
      </div>
      <p className={styles.empty}>{devices.length === 0 ? 'None was given to it.' : listWords(devices.map(({ name }) => name))}</p>
    </section>
  );
}

export function PartsTab({ entry, offline }: { entry: LibraryEntry; offline: boolean }) {
  const [dialog, setDialog] = useState<Dialog | null>(null);
  const jobs = usePartJobs();
  const { id, state } = entry;
  const live = isLive(state);
  const name = nameOf(entry);
  const parts = partsOf(entry.config);
  const close = (): void => setDialog(null);
  const remove = (slot: number, what: string, force = false): void => {
    void jobs.run(`remove ${slot}`, force ? 'take the device out by force' : 'remove the device', what, (client) => client.call('removeDevice', { id, slot, force }), { slot, what });
  };
  const place: Place = { entry, live, still: offline || state === 'starting' || state === 'stopping', jobs, open: setDialog, remove };
  const { failed } = jobs;
  const controller = parts.drives[0]?.controller;
  return (
    // It scrolls.
    <div className={styles.page} role="region" aria-label={`Devices of ${name}`} tabIndex={0}>
      {live && <p className={styles.lede}>The machine runs. Devices can come and go if the guest plays along; settings and sizes wait until it is off.</p>}
      {failed !== null && (
        <div className={styles.notices}>
          <ProblemNotice
            problem={failed.problem} onDismiss={jobs.dismiss}
            actions={failed.stuck === undefined ? undefined : <Button kind="danger" onPress={() => remove(failed.stuck!.slot, failed.stuck!.what, true)}>Take {failed.stuck.what} out by force</Button>}
          />
        </div>
      )}
      <Disks place={place} disks={parts.disks} />
      <Drives place={place} drives={parts.drives} />
      <Cards place={place} cards={parts.cards} />
      <Shares place={place} shares={parts.shares} />
      <Others place={place} others={parts.others} />
      <HostDevices entry={entry} live={live} />
      {dialog !== null && (dialog.kind === 'new' || dialog.kind === 'existing' || dialog.kind === 'overlay') && <DiskDialog entry={entry} kind={dialog.kind} onClose={close} />}
      {dialog?.kind === 'disk' && <DiskDialog entry={entry} kind="settings" part={dialog.part} onClose={close} />}
      {dialog?.kind === 'resize' && <ResizeDialog part={dialog.part} bytes={dialog.bytes} onClose={close} />}
      {dialog?.kind === 'drive' && <MediumDialog entry={entry} controller={controller} onClose={close} />}
      {dialog?.kind === 'medium' && <MediumDialog entry={entry} drive={dialog.drive} onClose={close} />}
      {dialog?.kind === 'card' && <CardDialog entry={entry} card={dialog.card} onClose={close} />}
      {dialog?.kind === 'share' && <ShareDialog entry={entry} share={dialog.share} onClose={close} />}
    </div>
  );
}
