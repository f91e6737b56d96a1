// Carrying out a plan, and taking it back. What the computer is to let go of at once ("kept") is done in a lease of the helper's that is
// told to stay only when everything is done, the machine's file included: until then the helper undoes all of it by itself when this
// process lets go, is cancelled or is killed (docs/passthrough-lease.md).
import { VitrineError } from '../../shared/errors.ts';
import { hostDevicesOf } from '../../shared/machine-config.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { GiveChoice } from '../../shared/passthrough.ts';
import type { Progress } from '../../shared/protocol/wire.ts';
import { Lease, releaseKept } from '../lease/lease.ts';
import type { TakingRequest } from '../lease/protocol.ts';
import { lockedBytes } from '../lease/pinned.ts';
import type { Library } from '../library/library.ts';
import { isHeld } from '../../vmm/server/run-record.ts';
import { givenDevices } from './given.ts';
import { shortAddress } from './identity.ts';
import type { HostPlace } from './place.ts';
import type { PlanQuestion } from './plan.ts';
import { devicesAfter, devicesOf, planFor } from './plan.ts';
import { requestsOf } from './steps.ts';
import { beginGiving } from './unfinished.ts';

const ATTEMPTED = 'give devices to the machine';

export interface Performing {
  library: Library;
  place: HostPlace;
  progress?: (progress: Progress) => void;
  /** Cancels: what was done is undone. */
  signal?: AbortSignal;
}

function cancelled(on: string): VitrineError {
  return new VitrineError({ attempted: ATTEMPTED, on, why: 'it was cancelled, and nothing stays changed.', remedy: '', code: 'cancelled' });
}

function goOn(signal: AbortSignal | undefined, on: string): void {
  if (signal?.aborted === true) throw cancelled(on);
}

/** What is asked of the helper, with words for whoever waits. */
function sayRequest(request: TakingRequest, { devices }: PlanQuestion['found']): string {
  if (request.verb === 'bind') return `Handing ${devices[request.address].name} (${shortAddress(request.address)}) to vfio-pci`;
  return `Opening group ${request.group} for you`;
}

/** Changes the machine's devices. The file's other members stay. */
async function setDevices(library: Library, id: string, devices: MachineConfig['devices']): Promise<void> {
  await library.update(id, { devices });
}

/** The lease in which the computer lets go of the devices, everything done and nothing kept yet. */
function takeFromHost(requests: TakingRequest[], { found, config }: PlanQuestion, { place, progress = () => {}, signal }: Performing): Promise<Lease> {
  const total = requests.length + 2;
  progress({ done: 0, total, text: 'Waiting for permission' });
  return Lease.take(requests, { starter: place.starter, attempted: ATTEMPTED, signal }, (request, done) => {
    goOn(signal, config.name);
    progress({ done, total, text: sayRequest(request, found) });
  });
}

/**
 * Does what the plan with this digest showed, whole or not at all. Throws the plan's problem, "plan-changed" when what it rests on is no
 * longer so, "cancelled", the helper's refusals ("lease-…"), and the library's.
 */
export async function giveDevices(choice: GiveChoice & { digest: string }, question: PlanQuestion, performing: Performing): Promise<void> {
  const { library, signal, progress = () => {} } = performing;
  const { config } = question;
  const plan = planFor(question);
  if (plan.problem !== undefined) throw new VitrineError(plan.problem);
  if (plan.digest !== choice.digest) {
    throw new VitrineError({ attempted: ATTEMPTED, on: config.name, why: 'something has changed on this computer, or of the machine, since it was shown what would be done.', remedy: 'Look at it again.', code: 'plan-changed' });
  }
  goOn(signal, config.name);
  const requests = choice.mode === 'kept' && question.found.on === 'host' ? requestsOf({ found: question.found, devices: devicesOf(question).all, memory: lockedBytes(config) }) : [];
  const { fresh } = devicesOf(question);
  let lease: Lease | null = null;
  let giving: { end: () => void } | null = null;
  let written = false;
  try {
    if (requests.length > 0 && plan.steps.some(({ what }) => what === 'unbind' || what === 'bind' || what === 'permit')) lease = await takeFromHost(requests, question, performing);
    progress({ done: requests.length, total: requests.length + 2, text: `Writing it into ${config.name}` });
    goOn(signal, config.name);
    if (lease !== null) giving = beginGiving(library.folderOf(config.id), config, fresh);
    await setDevices(library, config.id, devicesAfter(question));
    written = true;
    goOn(signal, config.name);
    if (lease !== null) {
      progress({ done: requests.length + 1, total: requests.length + 2, text: 'Keeping it so' });
      await lease.keep();
    }
    progress({ done: requests.length + 2, total: requests.length + 2, text: 'Done' });
  } catch (thrown) {
    lease?.release();
    if (written) await setDevices(library, config.id, config.devices);
    giving?.end();
    await lease?.ended;
    goOn(signal, config.name);
    throw thrown;
  }
  giving?.end();
  lease?.release();
  await lease?.ended;
}

/**
 * Gives back what is kept of these devices, after one question for permission. Throws the helper's refusals: those that a machine still uses
 * stay, and the others are back.
 */
export async function releaseDevices(addresses: readonly string[], { place, progress = () => {}, signal }: Omit<Performing, 'library'>): Promise<void> {
  const attempted = 'give devices back to the computer';
  const kept = givenDevices(place, []).filter(({ how, foreign }) => how === 'kept' && foreign !== true).map(({ address }) => address);
  const wanted = addresses.filter((address) => kept.includes(address));
  const strange = addresses.filter((address) => !kept.includes(address));
  if (strange.length > 0 && wanted.length === 0) throw new VitrineError({ attempted, on: strange.join(', '), why: 'it is not kept for you.', remedy: '', code: 'lease-not-leased' });
  if (signal?.aborted === true) throw new VitrineError({ attempted, on: '', why: 'it was cancelled.', remedy: '', code: 'cancelled' });
  progress({ done: 0, total: 1, text: 'Giving back to the computer' });
  if (wanted.length > 0) await releaseKept(wanted, { starter: place.starter, attempted, signal });
}

/** Takes devices out of a machine that is off; what is kept of them goes back to the computer first. */
export async function takeDevices({ id, addresses }: { id: string; addresses: readonly string[] }, performing: Performing): Promise<void> {
  const { library, place } = performing;
  const config = library.config(id);
  const attempted = 'take devices out of the machine';
  const own = hostDevicesOf(config).map(({ address }) => address);
  const strange = addresses.filter((address) => !own.includes(address));
  if (strange.length > 0) throw new VitrineError({ attempted, on: config.name, why: `it does not have ${strange.join(', ')}.`, remedy: '', code: 'no-such-device' });
  if (isHeld(library.folderOf(id))) throw new VitrineError({ attempted, on: config.name, why: 'it is running.', remedy: 'Shut it down first.', code: 'machine-running' });
  const kept = givenDevices(place, []).filter(({ address, how, foreign }) => how === 'kept' && foreign !== true && addresses.includes(address));
  if (kept.length > 0) await releaseDevices(kept.map(({ address }) => address), performing);
  await setDevices(library, id, config.devices.filter((device) => device.kind !== 'vfio-pci' || !addresses.includes(device.address)));
}
