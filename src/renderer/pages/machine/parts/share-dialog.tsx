// A folder of this computer for a machine: what the guest mounts it by, and whether it may write there.
import { useState } from 'react';
import { Check } from '../../../components/check.tsx';
import { TextField } from '../../../components/field.tsx';
import { PathField } from '../../../components/path-field.tsx';
import type { LibraryEntry } from '../../../../shared/protocol/front.ts';
import { front } from '../../../state/front.ts';
import { checkShare, emptyShareForm, shareDevice, shareFormOf, suggestedTag } from '../../../state/part-forms.ts';
import type { ShareForm } from '../../../state/part-forms.ts';
import { mountCommand, placedDevices } from '../../../state/parts.ts';
import type { Share } from '../../../state/parts.ts';
import { FormDialog } from './form-dialog.tsx';

export interface ShareDialogProps {
  entry: LibraryEntry;
  share?: Share;
  onClose: () => void;
}

export function ShareDialog({ entry, share, onClose }: ShareDialogProps) {
  const { id } = entry;
  const [form, setForm] = useState<ShareForm>(() => (share === undefined ? emptyShareForm : shareFormOf(share)));
  const [touched, setTouched] = useState<Partial<Record<keyof ShareForm, boolean>>>({});
  const errors = checkShare(form, placedDevices(entry.config).filter(({ slot }) => slot !== share?.slot));
  const change = <K extends keyof ShareForm>(name: K, value: ShareForm[K]): void => {
    // Until somebody chooses a tag, it is the folder's name.
    setForm((old) => ({ ...old, ...(name === 'folder' && share === undefined && touched.tag !== true ? { tag: suggestedTag(value as string) } : {}), [name]: value }));
    setTouched((old) => ({ ...old, [name]: true }));
  };
  const submit = async (): Promise<void> => {
    const device = shareDevice(form);
    if (share === undefined) await front().call('addDevice', { id, device });
    else await front().call('replaceDevice', { id, slot: share.slot, device: { ...share, ...device } });
  };
  return (
    <FormDialog
      title={share === undefined ? 'Share a folder' : `Settings of the folder ${share.tag}`} lede="The guest sees the folder as it is on this computer, and files in it belong to you." action={share === undefined ? 'Share folder' : 'Save settings'}
      attempted={share === undefined ? 'share the folder' : 'save the settings'} on={form.folder} right={Object.keys(errors).length === 0} submit={submit} onClose={onClose}
    >
      {({ all, pathError, clearPathError }) => (
        <>
          <PathField
            label="Folder" what="folder" title="Choose a folder to share" autoFocus placeholder="/home/you/projects" value={form.folder} onChange={(value) => { clearPathError(); change('folder', value); }}
            error={(all || touched.folder === true ? errors.folder : undefined) ?? pathError}
          />
          <TextField
            label="Tag" mono value={form.tag} onChange={(value) => change('tag', value)} error={all || touched.tag === true || (touched.folder === true && form.tag !== '') ? errors.tag : undefined}
            help={errors.tag === undefined ? <code>{mountCommand({ tag: form.tag.trim(), readonly: form.readonly })}</code> : 'What the guest mounts it by.'}
          />
          <Check isSelected={form.readonly} onChange={(value) => change('readonly', value)}>Read-only</Check>
        </>
      )}
    </FormDialog>
  );
}
