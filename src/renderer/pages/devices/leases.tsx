// What Vitrine has changed on this computer for machines (given, kept, reserved, virtual functions), each with what undoes it; and what it
// may do: the helper, and what machines may have without a password.
import type { ReactNode } from 'react';
import type { HostDevices } from '../../../shared/host-devices.ts';
import type { GivenDevice, Leases, RemedyRequest } from '../../../shared/passthrough.ts';
import { Commands } from '../../components/commands.tsx';
import { shortAddress } from '../../state/device-frames.ts';
import { listWords, shortList } from '../../state/give-words.ts';
import { hashOf } from '../../state/route.ts';
import { memoryWords } from '../../state/words.ts';
import { HelperNotice } from './computer.tsx';
import { RemedyButton } from './remedies.tsx';
import styles from './devices.module.css';

function nameAt(found: HostDevices, address: string): string {
  return found.devices[address]?.name ?? shortAddress(address);
}

function Machine({ machine }: { machine: { id: string; name: string } }) {
  return <a href={hashOf({ page: 'machine', id: machine.id, tab: 'screen' })}>{machine.name}</a>;
}

function Row({ title, addresses = [], children, below, action }: { title: string; addresses?: readonly string[]; children: ReactNode; below?: ReactNode; action?: ReactNode }) {
  return (
    <li className={styles.change} aria-label={title}>
      <div>
        <h3>{title}{addresses.length > 0 && <>{' '}<code>{addresses.map(shortAddress).join(', ')}</code></>}</h3>
        <p>{children}</p>
        {below}
      </div>
      {action}
    </li>
  );
}

/** What went away together: the same way, for the same machine, of one group. */
function together(given: readonly GivenDevice[], found: HostDevices): GivenDevice[][] {
  const sets = new Map<string, GivenDevice[]>();
  for (const each of given) {
    const card = each.how === 'reserved' ? each.address.replace(/\.\d$/, '') : found.devices[each.address]?.group ?? each.address;
    const key = [each.how, each.machine?.id, each.foreign === true, card].join(' ');
    sets.set(key, [...(sets.get(key) ?? []), each]);
  }
  return [...sets.values()];
}

function backTo(set: readonly GivenDevice[]): string {
  const drivers = [...new Set(set.map(({ driver }) => driver).filter((name): name is string => name !== undefined))];
  return drivers.length === 0 ? 'No driver of the computer had it.' : `It goes back to ${listWords(drivers)}.`;
}

function Given({ set, found }: { set: readonly GivenDevice[]; found: HostDevices }) {
  const [{ how, machine, foreign, address, waiting }] = set;
  const addresses = set.map((each) => each.address);
  const title = shortList(addresses.map((each) => nameAt(found, each)));
  if (how === 'held') return <Row title={title} addresses={addresses}>{machine === undefined ? 'A machine has it' : <><Machine machine={machine} /> has it</>} until it stops. {backTo(set)}</Row>;
  if (how === 'reserved') {
    return (
      <Row title={title} addresses={addresses} action={<RemedyButton label="Undo the reservation" on={title} request={{ verb: 'unreserve', address }} />}>
        {waiting === true
          ? `Reserved for machines from the computer’s next start on: no driver of the computer touches it then. ${backTo(set).replace('It goes back to', 'Until then it is with')}`
          : 'Reserved for machines from the computer’s start: no driver of the computer touches it. Undone, the computer has it from its next start.'}
      </Row>
    );
  }
  if (foreign === true) return <Row title={title} addresses={addresses}>Kept for machines of another user of this computer, who can release it; so can an administrator.</Row>;
  return (
    <Row title={title} addresses={addresses} action={<RemedyButton label="Release" on={title} request={{ verb: 'release', addresses }} />}>
      Kept for {machine === undefined ? 'machines' : <Machine machine={machine} />} until it is released, or the computer starts again. {backTo(set)}
    </Row>
  );
}

export function Changes({ leases, found }: { leases: Leases; found: HostDevices }) {
  const cards = Object.entries(leases.functions);
  if (leases.given.length + cards.length === 0) return null;
  return (
    <section className={styles.section} aria-labelledby="changes">
      <h2 id="changes">What Vitrine has changed on this computer</h2>
      <ul className={styles.changes}>
        {together(leases.given, found).map((set) => <Given key={`${set[0].how} ${set[0].address}`} set={set} found={found} />)}
        {cards.map(([address, { now, before }]) => (
          <Row
            key={address} title={nameAt(found, address)} addresses={[address]}
            action={<RemedyButton label={before === 0 ? 'Remove them' : `Set back to ${before}`} on={nameAt(found, address)} request={{ verb: 'restore-functions', address }} />}
          >
            It shows {now} virtual {now === 1 ? 'function' : 'functions'}; before it was {before}.
          </Row>
        ))}
      </ul>
    </section>
  );
}

export function Permissions({ leases, found }: { leases: Leases; found: HostDevices }) {
  const { grants, helper } = leases;
  const installed = helper.state === 'installed';
  const remove: RemedyRequest = { verb: 'remove-helper' };
  return (
    <section className={styles.section} aria-labelledby="permissions">
      <h2 id="permissions">What Vitrine may do on this computer</h2>
      {!installed && <div className={styles.notices}><HelperNotice helper={helper} /></div>}
      {(installed || grants.length > 0) && (
        <ul className={styles.changes}>
          {grants.map(({ machine, gone, addresses, memory, withdraw }) => (
            <Row
              key={machine.id} title={machine.name} addresses={addresses}
              action={helper.canAsk ? <RemedyButton label="Withdraw" on={machine.name} request={{ verb: 'revoke', id: machine.id, addresses }} /> : undefined}
              below={helper.canAsk ? undefined : <Commands title="To withdraw it, in a terminal:" commands={withdraw} />}
            >
              {gone === true ? 'This machine was removed. Until it is withdrawn, a machine of its name may have' : 'It may have'} {listWords(addresses.map((address) => nameAt(found, address)))} without a password, and lock {memoryWords(memory)} of memory.
            </Row>
          ))}
          {installed && (
            <Row title="Vitrine’s helper" action={helper.canAsk ? <RemedyButton label="Remove the helper" on="This computer" request={remove} /> : undefined}>
              It is set up. It lends devices to machines and takes them back, {helper.canAsk ? 'each time after you have allowed it' : 'and nobody can be asked for permission here: commands in a terminal do it'}.
            </Row>
          )}
        </ul>
      )}
      {installed && !helper.canAsk && helper.remove.length > 0 && <Commands title="To remove the helper, in a terminal:" commands={helper.remove} />}
    </section>
  );
}
