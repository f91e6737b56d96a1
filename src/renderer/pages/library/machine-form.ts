// What a person types to describe a machine, and what is wrong with it while they type. The limits are those of the machine's file.
import type { MachineChanges, NewMachine } from '../../../shared/protocol/front.ts';
import type { MachineConfig } from '../../../shared/machine-config.ts';
import { MAX_CPUS, MAX_MEMORY, MAX_NAME, MIN_MEMORY } from '../../../shared/machine-config.ts';
import { memoryWords } from '../../state/words.ts';

export interface MachineForm {
  name: string;
  kernel: string;
  initrd: string;
  append: string;
  memory: string;
  cpus: string;
  /** "1280x800", or "none". */
  screen: string;
  onReset: MachineConfig['onReset'];
}

/** Sizes at which the guest's screen begins; a guest's driver may take another. */
export const SCREEN_SIZES = ['640x480', '800x600', '1024x768', '1280x800', '1280x1024', '1440x900', '1600x900', '1680x1050', '1920x1080', '1920x1200', '2560x1440', '2560x1600'] as const;
export const NO_SCREEN = 'none';

export type FormErrors = Partial<Record<keyof MachineForm, string>>;

export const emptyForm: MachineForm = { name: '', kernel: '', initrd: '', append: 'console=tty0 console=ttyS0', memory: '1 GiB', cpus: '1', screen: '1280x800', onReset: 'restart' };

export function formOf(config: MachineConfig): MachineForm {
  return {
    name: config.name,
    kernel: config.boot.kernel,
    initrd: config.boot.initrd ?? '',
    append: config.boot.append,
    memory: memoryWords(config.memory),
    cpus: String(config.cpus),
    screen: config.display.kind === 'none' ? NO_SCREEN : `${config.display.width}x${config.display.height}`,
    onReset: config.onReset,
  };
}

const UNITS: Record<string, number> = { '': 2 ** 20, m: 2 ** 20, mb: 2 ** 20, mib: 2 ** 20, g: 2 ** 30, gb: 2 ** 30, gib: 2 ** 30, t: 2 ** 40, tb: 2 ** 40, tib: 2 ** 40 };

/** Bytes of "512", "512 MiB", "2G", "1.5 GiB"; NaN when it is no size. A number alone is MiB. */
export function parseMemory(text: string): number {
  const found = /^\s*(\d+(?:[.,]\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  const unit = found === null ? undefined : UNITS[found[2].toLowerCase()];
  if (found === null || unit === undefined) return Number.NaN;
  return Math.round(Number(found[1].replace(',', '.')) * unit);
}

/** The sizes to choose from, with the machine's own when its file has another. */
export function screenChoices(own: string): { value: string; text: string }[] {
  const sizes: string[] = [...SCREEN_SIZES];
  if (own !== NO_SCREEN && !sizes.includes(own)) sizes.push(own);
  return [...sizes.map((size) => ({ value: size, text: size.replace('x', ' × ') })), { value: NO_SCREEN, text: 'No screen' }];
}

function displayOf(screen: string): NewMachine['display'] {
  if (screen === NO_SCREEN) return { kind: 'none' };
  const [width, height] = screen.split('x').map(Number);
  return { kind: 'canvas', width, height };
}

function described(form: MachineForm): NewMachine {
  const initrd = form.initrd.trim();
  return {
    name: form.name,
    memory: parseMemory(form.memory),
    cpus: /^\s*\d+\s*$/.test(form.cpus) ? Number(form.cpus) : Number.NaN,
    boot: { kernel: form.kernel.trim(), ...(initrd === '' ? {} : { initrd }), append: form.append.trim() },
    display: displayOf(form.screen),
    onReset: form.onReset,
  };
}

const absolute = 'Write the whole path, beginning with “/”.';

/** What is wrong, by field; empty when the machine can be made. */
export function check(form: MachineForm): FormErrors {
  const errors: FormErrors = {};
  const { memory, cpus } = described(form);
  const length = form.name.trim().length;
  if (length === 0) errors.name = 'A machine needs a name.';
  else if (length > MAX_NAME) errors.name = `At most ${MAX_NAME} characters; this name has ${length}.`;
  if (Number.isNaN(memory)) errors.memory = 'Such as 512 MiB or 2 GiB.';
  else if (memory < MIN_MEMORY) errors.memory = `At least ${memoryWords(MIN_MEMORY)}.`;
  else if (memory > MAX_MEMORY) errors.memory = `At most ${memoryWords(MAX_MEMORY)}.`;
  else if (memory % 2 ** 20 !== 0) errors.memory = 'In whole MiB.';
  if (Number.isNaN(cpus)) errors.cpus = 'A whole number.';
  else if (cpus < 1 || cpus > MAX_CPUS) errors.cpus = `From 1 to ${MAX_CPUS}.`;
  if (form.kernel.trim() === '') errors.kernel = 'A machine needs a kernel to start.';
  else if (!form.kernel.trim().startsWith('/')) errors.kernel = absolute;
  if (form.initrd.trim() !== '' && !form.initrd.trim().startsWith('/')) errors.initrd = absolute;
  return errors;
}

/** What every machine gets that is made here: what guests expect and nothing that needs a choice. */
export const DEFAULT_DEVICES: NonNullable<NewMachine['devices']> = [
  { kind: 'virtio-rng' }, { kind: 'virtio-balloon' }, { kind: 'virtio-console' }, { kind: 'virtio-input', form: 'keyboard' }, { kind: 'virtio-input', form: 'tablet' },
];

export function toNewMachine(form: MachineForm): NewMachine {
  return { ...described(form), devices: DEFAULT_DEVICES };
}

/** What changes a machine's file so that it says what the form says; what the form does not show stays. */
export function toChanges(form: MachineForm): MachineChanges {
  return described(form);
}
