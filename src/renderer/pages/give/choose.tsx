// The first step: frames with one check box each. Any of them can be chosen; the next step says why one cannot go and what to do about it.
import type { ReactNode } from 'react';
import type { HostDevices } from '../../../shared/host-devices.ts';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import { Button } from '../../components/button.tsx';
import type { Frame } from '../../state/device-frames.ts';
import { hostDevicesOf } from '../../../shared/machine-config.ts';
import { Computer } from '../devices/computer.tsx';
import { DeviceList } from '../devices/device-list.tsx';
import { Step } from './steps.tsx';

export interface StepCommon {
  entry: LibraryEntry;
  /** The machine's name. */
  name: string;
  /** What is chosen, as people call it. */
  what: string;
  notices: ReactNode;
  onBack: () => void;
  /** Nothing can be given just now, which is said above. */
  blocked: boolean;
}

export interface ChooseProps extends StepCommon {
  found: HostDevices;
  groups: string[];
  onChoose: (groups: string[]) => void;
  onNext: () => void;
}

export function Choose({ entry, name, what, notices, onBack, found, groups, onChoose, onNext }: ChooseProps) {
  const has = new Set(hostDevicesOf(entry.config).map(({ address }) => address));
  const whole = ({ group }: Frame): boolean => group.given.length > 0 && group.given.every((address) => has.has(address));
  const choice = (frame: Frame) => {
    const { key } = frame.group;
    const own = whole(frame);
    return {
      selected: own || groups.includes(key),
      disabled: own,
      onChange: (selected: boolean) => onChoose(selected ? [...groups, key] : groups.filter((each) => each !== key)),
    };
  };
  const foot = (frame: Frame) => (whole(frame) ? <span>{name} has it already.</span> : undefined);
  return (
    <Step
      title="Choose a device" lede="What shares a frame can only be given together: the computer cannot keep it apart. Below each stands what your computer uses it for right now."
      left={<Button kind="plain" onPress={onBack}>Back</Button>}
      hint={groups.length === 0 ? 'Nothing is chosen yet.' : undefined}
      right={<Button kind="primary" isDisabled={groups.length === 0} onPress={onNext}>{groups.length === 0 ? 'Continue' : `Continue with ${what}`}</Button>}
    >
      {notices}
      <Computer findings={found.findings.filter(({ severity }) => severity === 'refused')} />
      <DeviceList found={found} choice={choice} foot={foot} />
    </Step>
  );
}
