// A CD for a drive of a machine, at once also while it runs; or a new drive with one.
import { useState } from 'react';
import { Check } from '../../../components/check.tsx';
import { PathField } from '../../../components/path-field.tsx';
import type { LibraryEntry } from '../../../../shared/protocol/front.ts';
import { front } from '../../../state/front.ts';
import { isLive } from '../../../state/machines.ts';
import { useTypedImage } from '../../../state/machine-parts.ts';
import { pathError as wrongPath } from '../../../state/part-forms.ts';
import { diskWords, imageTrouble } from '../../../state/parts.ts';
import type { CdPart, Scsi } from '../../../state/parts.ts';
import { asSentence } from '../../../state/words.ts';
import { FormDialog } from './form-dialog.tsx';

export interface MediumDialogProps {
  entry: LibraryEntry;
  /** The drive; absent for a new one. */
  drive?: CdPart;
  /** A controller that a new drive can be on, if there is one. */
  controller?: Scsi;
  onClose: () => void;
}

export function MediumDialog({ entry, drive, controller, onClose }: MediumDialogProps) {
  const { id } = entry;
  const [file, setFile] = useState(drive?.file ?? '');
  const [empty, setEmpty] = useState(false);
  const [touched, setTouched] = useState(false);
  const without = drive === undefined && empty;
  const error = without ? undefined : wrongPath(file, 'The image');
  const look = useTypedImage(without ? '' : file, 'raw');
  const trouble = imageTrouble(look);

  const submit = async (): Promise<void> => {
    const medium = without ? null : file.trim();
    if (drive !== undefined) await front().call('changeDevice', { id, slot: drive.slot, change: { kind: 'medium', drive: drive.drive, file: medium } });
    else if (controller !== undefined && !isLive(entry.state)) await front().call('replaceDevice', { id, slot: controller.slot, device: { ...controller, drives: [...controller.drives, { kind: 'cdrom', file: medium }] } });
    else await front().call('addDevice', { id, device: { kind: 'virtio-scsi', drives: [{ kind: 'cdrom', file: medium }] } });
  };

  return (
    <FormDialog
      title={drive === undefined ? 'Add a CD drive' : drive.file === null ? 'Insert a CD' : 'Insert another CD'} action={drive === undefined ? 'Add CD drive' : 'Insert CD'}
      lede="The image of a CD or DVD, as a file. The guest only reads it." attempted={drive === undefined ? 'add the CD drive' : 'insert the CD'} on={file} right={error === undefined} submit={submit} onClose={onClose}
    >
      {({ all, pathError, clearPathError }) => (
        <>
          <PathField
            label="Image" title="Choose the image of a CD" autoFocus placeholder="/data/debian.iso" isDisabled={without} value={file} onChange={(value) => { clearPathError(); setTouched(true); setFile(value); }}
            error={(all || touched ? error : undefined) ?? pathError ?? (trouble === null ? undefined : asSentence(trouble))} help={look !== undefined && 'disk' in look ? diskWords(look.disk) : undefined}
          />
          {drive === undefined && <Check isSelected={empty} onChange={setEmpty}>Leave the drive empty</Check>}
        </>
      )}
    </FormDialog>
  );
}
