// Which machine gets a device: asked when one begins with the device.
import { useState } from 'react';
import { Button } from '../../components/button.tsx';
import { Dialog } from '../../components/dialog.tsx';
import { OneOfField } from '../../components/check.tsx';
import { openDialog } from '../../state/dialogs.ts';
import { useFront } from '../../state/front.ts';
import { isLive } from '../../state/machines.ts';
import { go } from '../../state/route.ts';
import { nameOf, specWords, stateWords } from '../../state/words.ts';
import { inOrder } from '../library/order.ts';
import styles from './devices.module.css';

export function ChooseMachine({ group, name, onClose }: { group: string; name: string; onClose: () => void }) {
  const machines = useFront((front) => front.machines);
  const all = inOrder(Object.values(machines ?? {})).filter(({ config }) => config !== undefined);
  const able = all.filter(({ state }) => !isLive(state));
  const [chosen, setChosen] = useState<string | null>(null);
  const id = able.some((each) => each.id === chosen) ? chosen! : (able[0]?.id ?? '');
  const entry = able.find((each) => each.id === id);
  return (
    <Dialog
      title={`Give ${name} to a machine`} small onClose={onClose}
      lede={able.length > 0 ? 'Nothing is changed yet: what would happen to this computer is shown first.' : undefined}
      foot={<>
        <Button kind="plain" onPress={onClose}>Cancel</Button>
        {able.length === 0
          ? <Button kind="primary" autoFocus onPress={() => openDialog({ kind: 'new' })}>New machine</Button>
          : <Button kind="primary" onPress={() => { onClose(); go({ page: 'give', id, step: 'understand', groups: [group] }); }}>Continue with {entry === undefined ? '' : nameOf(entry)}</Button>}
      </>}
    >
      {able.length === 0
        ? <p>{all.length === 0 ? 'There is no machine yet. Make one, then give it the device.' : 'Every machine runs. A device is given to a machine that is off.'}</p>
        : (
          <div className={styles.machines}>
            <OneOfField label="Machine" value={id} onChange={setChosen} choices={able.map((each) => ({ value: each.id, text: nameOf(each), help: `${stateWords[each.state]}, ${specWords(each)}` }))} />
            {able.length < all.length && <p>{all.length - able.length} more {all.length - able.length === 1 ? 'runs' : 'run'}: a device is given to a machine that is off.</p>}
          </div>
        )}
    </Dialog>
  );
}
