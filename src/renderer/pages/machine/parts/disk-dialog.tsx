// A disk for a machine: a new image, one that is there, an overlay of another; or other settings for one that it has. And another size for an image.
import { useRef, useState } from 'react';
import { parseSize, sizeWords } from '../../../../shared/disks.ts';
import { TextField } from '../../../components/field.tsx';
import { Check } from '../../../components/check.tsx';
import { PathField } from '../../../components/path-field.tsx';
import { SelectField } from '../../../components/select.tsx';
import type { DeviceConfig } from '../../../../shared/machine-config.ts';
import type { LibraryEntry } from '../../../../shared/protocol/front.ts';
import { front, useFront } from '../../../state/front.ts';
import { useTypedImage } from '../../../state/machine-parts.ts';
import { checkDisk, diskDevice, diskFormOf, diskSettings, emptyDiskForm, sizeError } from '../../../state/part-forms.ts';
import type { DiskForm, DiskFormKind } from '../../../state/part-forms.ts';
import { diskWords, fileName, freeDiskName, imageTrouble, placedDevices } from '../../../state/parts.ts';
import type { DiskPart } from '../../../state/parts.ts';
import { asSentence } from '../../../state/words.ts';
import { FormDialog } from './form-dialog.tsx';
import styles from './parts.module.css';

const words = {
  new: { title: 'New disk', lede: 'An empty image. It takes room only for what the guest writes.', action: 'Create disk', attempted: 'create the disk' },
  existing: { title: 'Add a disk', lede: 'An image that is there already, or a block device of this computer.', action: 'Add disk', attempted: 'add the disk' },
  overlay: { title: 'Overlay of an image', lede: 'A new image that shows another one and takes what is written. The other must stay as it is from now on.', action: 'Create overlay', attempted: 'create the overlay' },
  settings: { title: 'Settings of the disk', lede: 'They hold from the next start.', action: 'Save settings', attempted: 'save the settings' },
} as const;

const FORMATS = [{ value: 'qcow2', text: 'qcow2' }, { value: 'raw', text: 'raw' }] as const;
const FOUND_FORMATS = [{ value: '', text: 'Find out' }, ...FORMATS] as const;
const CACHES = [{ value: 'writeback', text: 'This computer’s page cache' }, { value: 'none', text: 'None (O_DIRECT)' }, { value: 'unsafe', text: 'Unsafe: ignore flushes' }] as const;
const ON_ERROR = [{ value: 'report', text: 'Tell the guest' }, { value: 'pause', text: 'Pause the machine' }] as const;
const cacheHelp = { writeback: 'What the guest flushes is on the disk.', none: 'For disks of this computer’s own.', unsafe: 'Quick. A power cut destroys the disk.' } as const;

export interface DiskDialogProps {
  entry: LibraryEntry;
  kind: DiskFormKind;
  /** With `settings`. */
  part?: DiskPart;
  onClose: () => void;
}

function others(entry: LibraryEntry, slot: number | undefined): DeviceConfig[] {
  return placedDevices(entry.config).filter((device) => device.slot !== slot);
}

/** The device as it is to be in the file: a virtio-blk, or the whole controller that has the disk. */
function changedDevice(part: DiskPart, form: DiskForm): DeviceConfig {
  if (part.at === undefined) return { ...diskDevice(form), queues: part.device?.queues ?? 1, rings: part.device?.rings ?? 'split' } as DeviceConfig;
  const { controller, drive } = part.at;
  return { ...controller, drives: controller.drives.map((each, index) => (index === drive ? { kind: 'disk', ...diskSettings(form) } : each)) };
}

export function DiskDialog({ entry, kind, part, onClose }: DiskDialogProps) {
  const { id } = entry;
  const library = useFront((state) => state.host?.library ?? '');
  const [form, setForm] = useState<DiskForm>(() => (part === undefined ? emptyDiskForm(kind, library === '' ? '' : freeDiskName(library, entry, kind === 'overlay' ? 'overlay' : 'disk')) : diskFormOf(part.disk)));
  const [touched, setTouched] = useState<Partial<Record<keyof DiskForm, boolean>>>({});
  /** The image that was made at the last attempt: then only the machine did not take it. */
  const made = useRef('');
  const errors = checkDisk(kind, form, others(entry, part?.slot));
  const typed = useTypedImage(kind === 'overlay' ? form.backing : kind === 'existing' ? form.file : '', kind === 'existing' && form.format !== '' ? form.format : undefined);
  const look = kind === 'existing' || kind === 'overlay' ? typed : undefined;
  const found = look !== undefined && 'disk' in look ? diskWords(look.disk) : undefined;
  const trouble = imageTrouble(look);
  const change = <K extends keyof DiskForm>(name: K, value: DiskForm[K]): void => {
    setForm((old) => ({ ...old, [name]: value }));
    setTouched((old) => ({ ...old, [name]: true }));
  };

  const submit = async (): Promise<void> => {
    if (kind === 'settings' && part !== undefined) {
      await front().call('replaceDevice', { id, slot: part.slot, device: changedDevice(part, form) });
      return;
    }
    const file = form.file.trim();
    if (kind !== 'existing' && made.current !== file) {
      const backing = kind === 'overlay' ? { backing: { file: form.backing.trim() } } : { bytes: parseSize(form.size, 'g') };
      await front().call('createDisk', { file, format: kind === 'overlay' ? 'qcow2' : form.format === 'raw' ? 'raw' : 'qcow2', ...backing });
      made.current = file;
    }
    await front().call('addDevice', { id, device: diskDevice(form) });
  };

  const { title, lede, action, attempted } = words[kind];
  return (
    <FormDialog
      title={kind === 'settings' && part !== undefined ? `Settings of ${fileName(part.disk.file)}` : title} lede={lede} action={action} attempted={attempted} on={form.file}
      right={Object.keys(errors).length === 0} submit={submit} onClose={onClose}
    >
      {({ all, pathError, clearPathError }) => {
        const errorOf = (name: keyof DiskForm) => (all || touched[name] === true ? errors[name] : undefined);
        const ofImage = trouble === null ? undefined : asSentence(trouble);
        return (
          <>
            {kind === 'overlay' && (
              <PathField
                label="Image below" title="Choose the image below" autoFocus placeholder="/data/debian.qcow2" value={form.backing} onChange={(value) => { clearPathError(); change('backing', value); }}
                error={errorOf('backing') ?? ofImage} help={found ?? 'It is only read from now on.'}
              />
            )}
            <PathField
              label={kind === 'new' || kind === 'overlay' ? 'New image' : 'Image'} title="Choose a disk image" autoFocus={kind === 'new' || kind === 'existing'} placeholder="/data/disk.qcow2"
              value={form.file} onChange={(value) => { clearPathError(); change('file', value); }}
              error={errorOf('file') ?? pathError ?? (kind === 'existing' ? ofImage : undefined)}
              help={kind === 'existing' ? found ?? 'A file or a block device.' : kind === 'settings' ? undefined : library !== '' && form.file.startsWith(`${library}/${id}/`) ? 'In the machine’s own folder: it goes when the machine is removed.' : 'It stays when the machine is removed.'}
            />
            <div className={styles.pair}>
              {kind === 'new' && <TextField label="Size" value={form.size} onChange={(value) => change('size', value)} error={errorOf('size')} help="As the guest sees it." />}
              {kind === 'new' && <SelectField label="Format" choices={FORMATS} value={form.format === 'raw' ? 'raw' : 'qcow2'} onChange={(value) => change('format', value)} help={form.format === 'raw' ? 'Plain, and the quickest.' : 'With overlays and snapshots.'} />}
              {(kind === 'existing' || kind === 'settings') && <SelectField label="Format" choices={FOUND_FORMATS} value={form.format} onChange={(value) => change('format', value)} help="By the first bytes unless told." />}
              <SelectField label="When this computer fails" choices={ON_ERROR} value={form.onError} onChange={(value) => change('onError', value)} help={form.onError === 'pause' ? 'Tried again when it is resumed.' : 'As an error of the disk.'} />
              <SelectField label="Cache" choices={CACHES} value={form.cache} onChange={(value) => change('cache', value)} help={cacheHelp[form.cache]} />
              <TextField label="Serial number" aside="optional" value={form.serial} onChange={(value) => change('serial', value)} error={errorOf('serial')} help="As the guest sees it." />
            </div>
            <Check isSelected={form.readonly} onChange={(value) => change('readonly', value)}>Read-only</Check>
          </>
        );
      }}
    </FormDialog>
  );
}

export interface ResizeDialogProps {
  part: DiskPart;
  /** The disk's size now. */
  bytes: number;
  onClose: () => void;
}

export function ResizeDialog({ part, bytes, onClose }: ResizeDialogProps) {
  const { file, format } = part.disk;
  const [size, setSize] = useState(sizeWords(bytes));
  const [shrink, setShrink] = useState(false);
  const [touched, setTouched] = useState(false);
  const wanted = parseSize(size, 'g');
  const smaller = wanted < bytes;
  const error = sizeError(size) ?? (sizeWords(wanted) === sizeWords(bytes) ? 'It has this size already.' : undefined);
  return (
    <FormDialog
      title={`Resize ${fileName(file)}`} lede={`It has ${sizeWords(bytes)} now. The guest sees the new size from its next start; its file systems grow from inside.`} action="Resize disk" attempted="resize the disk" on={file}
      right={error === undefined && (!smaller || shrink)} onClose={onClose}
      submit={async () => { await front().call('resizeDisk', { file, bytes: wanted, shrink: smaller && shrink, ...(format === undefined ? {} : { format }) }); }}
    >
      {({ all, pathError, clearPathError }) => (
        <>
          <TextField label="New size" autoFocus value={size} onChange={(value) => { clearPathError(); setTouched(true); setSize(value); }} error={(all || touched ? error : undefined) ?? (all && smaller && !shrink ? 'It is smaller than the disk. Say below that the rest may be lost.' : undefined) ?? pathError} help="Such as 40 GiB." />
          {smaller && error === undefined && <Check isSelected={shrink} onChange={setShrink}>Lose what lies behind {sizeWords(wanted)}</Check>}
        </>
      )}
    </FormDialog>
  );
}
