// The devices of the computer that a machine has: what each is, what is wrong with it and what can be done, and the way back.
import { useState } from 'react';
import type { Problem } from '../../../shared/errors.ts';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import { Button } from '../../components/button.tsx';
import { Dialog } from '../../components/dialog.tsx';
import { Notice, ProblemNotice } from '../../components/notice.tsx';
import { shortAddress } from '../../state/device-frames.ts';
import { useDevices } from '../../state/devices.ts';
import { front, problemOf } from '../../state/front.ts';
import { shortList } from '../../state/give-words.ts';
import { inGroups, machineDevices } from '../../state/machine-devices.ts';
import type { MachineDevice } from '../../state/machine-devices.ts';
import { isLive } from '../../state/machines.ts';
import { go, hashOf } from '../../state/route.ts';
import { sayDone } from '../../state/troubles.ts';
import { nameOf } from '../../state/words.ts';
import { RemedyButton } from '../devices/remedies.tsx';
import styles from '../devices/devices.module.css';

/** What is wrong with a machine's devices, before it is started; nothing where all are in their places. */
export function DeviceTroubles({ entry }: { entry: LibraryEntry }) {
  const live = isLive(entry.state);
  return (
    <>
      {(entry.deviceTroubles ?? []).map(({ address, name, kind, sentence, remedy, to }) => (
        <Notice
          key={address} narrow gravity="care" title={sentence}
          actions={to === undefined || live ? undefined : <RemedyButton label={`Use it at ${shortAddress(to)}`} on={name} request={{ verb: 'use-at', id: entry.id, address, to }} />}
        >
          {remedy !== '' && (to === undefined || kind !== 'moved') && <p>{remedy}</p>}
        </Notice>
      ))}
    </>
  );
}

export function MachineDevices({ entry, onClose }: { entry: LibraryEntry; onClose: () => void }) {
  const { id } = entry;
  const name = nameOf(entry);
  const { found } = useDevices();
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState('');
  const live = isLive(entry.state);
  const sets = inGroups(machineDevices(entry, found), found);

  const takeBack = async (set: readonly MachineDevice[], what: string): Promise<void> => {
    setBusy(what);
    setProblem(null);
    try {
      await front().call('takeDevices', { id, addresses: set.map(({ config }) => config.address) });
      sayDone(`${name} does not have ${what} any more.`);
    } catch (thrown) {
      setProblem(problemOf(thrown, 'take it back', what));
    }
    setBusy('');
  };

  return (
    <Dialog
      title={`Devices of ${name}`} onClose={onClose}
      lede={sets.length === 0 ? undefined : live ? 'It runs and has them. What it has can be changed while it is off.' : 'The computer has them while the machine is off, unless they are kept for machines.'}
      foot={<>
        <Button autoFocus onPress={onClose}>Close</Button>
        <Button kind="primary" isDisabled={live} onPress={() => { onClose(); go({ page: 'give', id, step: 'choose', groups: [] }); }}>Give a device…</Button>
      </>}
    >
      <div className={styles.details}>
        {problem !== null && <ProblemNotice problem={problem} />}
        <DeviceTroubles entry={entry} />
        {sets.length === 0 && <p>It has none of this computer’s devices.</p>}
        {sets.length > 0 && (
          <ul className={styles.changes} aria-label="Devices">
            {sets.map((set) => {
              const what = shortList(set.map((each) => each.name));
              return (
                <li key={set[0].config.address} className={styles.change} aria-label={what}>
                  <div>
                    {set.map((each) => (
                      <p key={each.config.address} className={styles.own}>
                        {found?.devices[each.config.address] !== undefined && each.trouble === undefined ? <a href={hashOf({ page: 'devices', address: each.config.address })} onClick={onClose}>{each.name}</a> : each.name}
                        {' '}<code>{shortAddress(each.config.address)}</code>
                        {each.config.rom !== undefined && <>{' '}<small>{each.config.rom === 'off' ? 'without its ROM' : <>with the ROM <code>{each.config.rom.file}</code></>}</small></>}
                      </p>
                    ))}
                  </div>
                  <Button aria-label={`Take back ${what}`} isDisabled={live || busy !== ''} onPress={() => void takeBack(set, what)}>Take back</Button>
                </li>
              );
            })}
          </ul>
        )}
      </div>
    </Dialog>
  );
}
