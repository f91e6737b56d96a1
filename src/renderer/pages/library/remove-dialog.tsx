// Before a machine is removed: what goes and what stays; and, where it was allowed devices without a password, that this ends with it.
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import { Confirm } from '../../components/dialog.tsx';
import { shortAddress } from '../../state/device-frames.ts';
import { listWords } from '../../state/give-words.ts';
import { useFront } from '../../state/front.ts';
import { runRemedy, useLeases } from '../../state/leases.ts';
import { machineDevices } from '../../state/machine-devices.ts';
import { isLive, removeMachine } from '../../state/machines.ts';
import { fileName, ownDisks } from '../../state/parts.ts';
import { go } from '../../state/route.ts';
import { nameOf } from '../../state/words.ts';

export function RemoveDialog({ entry, onClose }: { entry: LibraryEntry; onClose: () => void }) {
  const { id } = entry;
  const name = nameOf(entry);
  const leases = useLeases();
  const grant = leases?.grants.find(({ machine }) => machine.id === id);
  const asked = leases?.helper.state === 'installed' && leases.helper.canAsk;
  const live = isLive(entry.state);
  const own = machineDevices(entry, null);
  const disks = ownDisks(useFront((front) => front.host?.library), entry);
  const remove = async (): Promise<void> => {
    if (!(await removeMachine(id, name))) return;
    go({ page: 'machines' });
    if (grant !== undefined && asked) await runRemedy({ verb: 'revoke', id, addresses: grant.addresses }, name);
  };
  return (
    <Confirm title={`Remove ${name}`} action="Remove machine" onClose={onClose} onConfirm={() => void remove()}>
      <p>{live
        ? 'It is running, and only a machine that is off can be removed.'
        : 'Its folder in the library is deleted, with its settings and its log. The kernel and initrd that it starts stay where they are, and so do disks and folders elsewhere.'}</p>
      {!live && disks.length > 0 && <p><strong>The disks in its folder are deleted, too: {listWords(disks.map(fileName))}.</strong></p>}
      {grant !== undefined && !live && (
        <p>
          It may have {listWords(grant.addresses.map((address) => own.find(({ config }) => config.address === address)?.name ?? shortAddress(address)))} without a password.{' '}
          {asked ? 'That is withdrawn with it, and Vitrine asks for your password to do so. Without it, it stays on the Devices page until you withdraw it there.' : 'That stays until it is withdrawn, and nobody can be asked for permission here: the Devices page has the command.'}
        </p>
      )}
    </Confirm>
  );
}
