// A field of a form with a few values to choose from: looks as a text field does, with the same line below.
import type { ReactNode } from 'react';
import { ChevronDown } from 'lucide-react';
import { Button, Label, ListBox, ListBoxItem, Popover, Select as AriaSelect, SelectValue, Text } from 'react-aria-components';
import field from './field.module.css';
import overlay from './overlay.module.css';

export interface Choice<T extends string> {
  readonly value: T;
  readonly text: string;
}

export interface SelectFieldProps<T extends string> {
  label: string;
  choices: readonly Choice<T>[];
  value: T;
  onChange: (value: T) => void;
  help?: ReactNode;
  isDisabled?: boolean;
  /** As a text field's. */
  bare?: boolean;
}

export function SelectField<T extends string>({ label, choices, value, onChange, help, isDisabled = false, bare = false }: SelectFieldProps<T>) {
  return (
    <AriaSelect className={field.field} isDisabled={isDisabled} value={value} onChange={(key) => onChange(key as T)}>
      <Label className={bare ? field.read : field.label}>{label}</Label>
      <Button className={field.select}>
        <SelectValue />
        <ChevronDown size={16} aria-hidden />
      </Button>
      {!bare && <Text slot="description" className={field.help}>{help ?? ' '}</Text>}
      <Popover className={overlay.popover} offset={4}>
        <ListBox className={overlay.menu}>
          {choices.map(({ value: id, text }) => <ListBoxItem key={id} id={id} textValue={text} className={overlay.item}>{text}</ListBoxItem>)}
        </ListBox>
      </Popover>
    </AriaSelect>
  );
}
