// A field for the path of a file or a folder, with a button that asks the desktop for one where the shell can.
import type { TextFieldProps } from './field.tsx';
import { TextField } from './field.tsx';
import { bridge } from '../client/bridge.ts';
import { Button } from './button.tsx';

export interface PathFieldProps extends Omit<TextFieldProps, 'mono' | 'after'> {
  what?: 'file' | 'folder';
  /** Of the desktop's dialog: "Choose a disk image". */
  title: string;
}

export function PathField({ what = 'file', title, onChange, isDisabled, ...rest }: PathFieldProps) {
  const pick = what === 'file' ? bridge.pickFile : bridge.pickFolder;
  const choose = pick === undefined ? undefined : (
    <Button isDisabled={isDisabled} onPress={() => { void pick(title).then((path) => { if (path !== null) onChange(path); }); }}>{what === 'file' ? 'Choose file' : 'Choose folder'}</Button>
  );
  return <TextField {...rest} mono onChange={onChange} isDisabled={isDisabled} after={choose} />;
}
