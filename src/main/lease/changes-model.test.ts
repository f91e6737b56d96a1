// A thousand executions of the helper's lasting ways by chance, on hosts by chance, each against a model of the rules: what it answers, what it
// writes, what it writes down. At the end of each host everything is undone by `remove`.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { compileHelper, FakeHost, THIS_BOOT } from './testing/fake-host.ts';
import type { FakeDevice } from './testing/fake-host.ts';
import { runHelper } from './testing/run-helper.ts';

const uid = process.getuid!();
const MACHINES = ['games', 'work', 'a'];
const GONE = '0000:00:1f.7';

interface ModelDevice extends FakeDevice {
  ids: string;
  classCode: string;
  mounted: boolean;
}

/** A step: what is run, and whether the distribution's program for the initramfs works meanwhile. */
interface Step {
  words: string[];
  lines: string[];
  fails: boolean;
}

const slotOf = (address: string): string => address.slice(0, 10);

const deviceArbitrary = fc.record({
  ids: fc.integer({ min: 1, max: 15 }).map((n) => `8086:${(n * 4096).toString(16)}`), classCode: fc.constantFrom('030000', '020000', '020000', '020000', '0c0330', '0c0330'), driver: fc.option(fc.constantFrom('e1000e', 'amdgpu', 'xhci_hcd'), { nil: undefined, freq: 5 }),
  second: fc.boolean(), mounted: fc.integer({ min: 0, max: 4 }).map((n) => n === 0), total: fc.constantFrom(undefined, undefined, 1, 4, 7), group: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined, freq: 6 }),
});

function randomDevices(seed: number): Map<string, ModelDevice> {
  const [made] = fc.sample(fc.array(deviceArbitrary, { minLength: 5, maxLength: 7 }), { seed, numRuns: 1 });
  const devices = new Map<string, ModelDevice>();
  let slot = 1;
  const add = (device: ModelDevice): void => void devices.set(device.address, device);
  add({ address: '0000:00:01.0', group: 9, driver: 'pcieport', bridge: true, ids: '8086:0001', classCode: '060400', mounted: false });
  for (const { second, mounted, total, ...rest } of made!) {
    const isSecond = second && slot > 1;
    if (!isSecond) slot++;
    const address = `0000:00:${slot.toString(16).padStart(2, '0')}.${isSecond ? 1 : 0}`;
    if (devices.has(address)) continue;
    add({ ...rest, address, mounted, total, functions: total === undefined ? undefined : 0, functionDriver: total === undefined ? undefined : 'iavf', disks: mounted ? [{ name: `nvme${2 * slot + Number(isSecond)}n1`, number: `259:${2 * slot + Number(isSecond)}` }] : [] });
  }
  return devices;
}

class Model {
  readonly log: string[] = [];
  readonly #devices: Map<string, ModelDevice>;
  readonly #now = new Map<string, number>();
  readonly #before: { address: string; before: number }[] = [];
  #reserved: { address: string; ids: string; module: string }[] = [];
  #due = false;
  #grants: { machine: string; bytes: number; addresses: string[] }[] = [];

  constructor(devices: Map<string, ModelDevice>) {
    this.#devices = devices;
  }

  answers({ words: [way, ...rest], lines, fails }: Step): string[] {
    switch (way) {
      case 'functions': return [this.#functions(rest[0]!, rest[1]!)];
      case 'reserve': return [this.#reserve(rest[0]!, fails)];
      case 'unreserve': return [this.#unreserve(rest[0]!, fails)];
      case 'grant': return [this.#grant(rest[0]!, Number(rest[1]), rest.slice(2))];
      case 'revoke': return [this.#revoke(rest[0]!)];
      case 'granted': return this.#granted(rest[0]!, lines);
      default: return ['ok'];
    }
  }

  #functions(address: string, word: string): string {
    const device = this.#devices.get(address);
    const record = this.#before.find((each) => each.address === address);
    if (device === undefined) return 'no-device';
    if (word === 'restore' && record === undefined) return 'no-record';
    if (device.total === undefined) return 'no-sriov';
    const count = word === 'restore' ? record!.before : Number(word);
    if (count > device.total) return 'functions';
    const now = this.#now.get(address) ?? 0;
    if (count !== now) {
      if (device.driver === undefined) return 'no-driver';
      if (now > 0) this.log.push(`write bus/pci/devices/${address}/sriov_numvfs 0`);
      if (count > 0) this.log.push(`write bus/pci/devices/${address}/sriov_numvfs ${count}`);
      this.#now.set(address, count);
      if (record === undefined) this.#before.push({ address, before: now });
    }
    const at = this.#before.findIndex((each) => each.address === address && each.before === count);
    if (at >= 0) {
      // The last one takes its place.
      const last = this.#before.pop()!;
      if (at < this.#before.length) this.#before[at] = last;
    }
    return 'ok';
  }

  #makeInitramfs(fails: boolean): boolean {
    this.log.push('initramfs update-initramfs');
    this.#due = fails;
    return !fails;
  }

  #reserve(address: string, fails: boolean): string {
    const slot = slotOf(address);
    if (!this.#due && this.#reserved.some((each) => slotOf(each.address) === slot)) return 'ok';
    const device = this.#devices.get(address);
    if (device === undefined) return 'no-device';
    if (device.bridge === true) return 'bridge';
    const card = [...this.#devices.values()].filter((each) => slotOf(each.address) === slot).toSorted((a, b) => (a.address < b.address ? -1 : 1));
    for (const each of card) {
      if ((this.#now.get(each.address) ?? 0) > 0) return 'virtual-functions';
      if (each.mounted) return 'mounted';
    }
    const others = [...this.#devices.values()].filter((each) => slotOf(each.address) !== slot);
    if (others.some(({ ids }) => card.some((each) => each.ids === ids))) return 'twin';
    const shows = ({ classCode }: ModelDevice): boolean => classCode.startsWith('03');
    if (card.some(shows) && !others.some(shows)) return 'only-display';
    const without = this.#reserved.filter((each) => slotOf(each.address) !== slot);
    this.#reserved = [...without, ...card.map(({ address: at, ids, driver = '' }) => ({ address: at, ids, module: driver }))];
    if (this.#makeInitramfs(fails)) return 'ok';
    this.#reserved = without;
    return 'initramfs';
  }

  #unreserve(address: string, fails: boolean): string {
    const without = this.#reserved.filter((each) => slotOf(each.address) !== slotOf(address));
    if (without.length === this.#reserved.length && !this.#due) return 'no-record';
    this.#reserved = without;
    return this.#makeInitramfs(fails) ? 'ok' : 'initramfs';
  }

  #grant(machine: string, bytes: number, addresses: string[]): string {
    for (const [index, address] of addresses.entries()) {
      const device = this.#devices.get(address);
      if (device === undefined) return 'no-device';
      if (device.bridge === true) return 'bridge';
      if (addresses.indexOf(address) < index) return 'odd';
    }
    const grant = { machine, bytes, addresses };
    const at = this.#grants.findIndex((each) => each.machine === machine);
    if (at < 0) this.#grants.push(grant);
    else this.#grants[at] = grant;
    return 'ok';
  }

  #revoke(machine: string): string {
    const left = this.#grants.filter((each) => each.machine !== machine);
    const known = left.length < this.#grants.length;
    this.#grants = left;
    return known ? 'ok' : 'no-record';
  }

  #granted(machine: string, lines: string[]): string[] {
    const grant = this.#grants.find((each) => each.machine === machine);
    if (grant === undefined) return ['not-granted'];
    const bound = new Set<string>();
    return lines.map((line) => {
      const [verb, word] = line.split(' ') as [string, string];
      if (verb === 'keep' || verb === 'module') return 'not-granted';
      if (verb === 'held') return 'ok';
      if (verb === 'memlock') return 'not-granted';
      if (verb === 'bind') {
        if (!grant.addresses.includes(word)) return 'not-granted';
        const device = this.#devices.get(word)!;
        if (device.group === undefined) return 'no-group';
        if ((this.#now.get(word) ?? 0) > 0) return 'virtual-functions';
        if (device.mounted) return 'mounted';
        bound.add(word);
        return 'ok';
      }
      const members = [...this.#devices.values()].filter(({ group, bridge }) => group === Number(word) && bridge !== true).map(({ address }) => address);
      if (members.length === 0) return 'no-group';
      if (members.some((address) => !grant.addresses.includes(address))) return 'not-granted';
      return members.every((address) => bound.has(address)) ? 'ok' : 'not-viable';
    });
  }

  get lasting(): string[] {
    const idsOf = (address: string): string => this.#devices.get(address)!.ids;
    return [
      ...this.#before.map(({ address, before: was }) => `functions ${THIS_BOOT} ${address} ${idsOf(address)} ${was}`), ...this.#reserved.map(({ address, ids, module }) => `reserved ${address} ${ids} ${module === '' ? '-' : module}`),
      ...(this.#due ? ['initramfs due'] : []), ...this.#grants.map(({ machine, bytes, addresses }) => `grant ${uid} ${machine} ${bytes} ${addresses.map((address) => `${address}=${idsOf(address)}`).join(' ')}`),
    ];
  }

  get conf(): string[] {
    if (this.#reserved.length === 0) return [];
    const modules = new Set(this.#reserved.map(({ module }) => module).filter((name) => name !== ''));
    return [...[...modules].map((name) => `softdep ${name} pre: vfio-pci`), `options vfio-pci ids=${[...new Set(this.#reserved.map(({ ids }) => ids))].join(',')}`];
  }
}

function stepsOf(devices: Map<string, ModelDevice>): fc.Arbitrary<Step> {
  const address = fc.oneof({ weight: 12, arbitrary: fc.constantFrom(...devices.keys()) }, { weight: 3, arbitrary: fc.constant(GONE) });
  const sriov = [...devices.values()].filter(({ total }) => total !== undefined).map((each) => each.address);
  const card = sriov.length === 0 ? address : fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...sriov) }, { weight: 1, arbitrary: address });
  const machine = fc.constantFrom(...MACHINES);
  const good = fc.uniqueArray(fc.constantFrom(...[...devices.values()].filter(({ bridge }) => bridge !== true).map((each) => each.address)), { minLength: 1, maxLength: 6 });
  const granted = fc.oneof({ weight: 3, arbitrary: good }, { weight: 2, arbitrary: fc.array(address, { minLength: 1, maxLength: 5 }) });
  const line = fc.oneof({ weight: 5, arbitrary: address.map((one) => `bind ${one}`) }, { weight: 4, arbitrary: fc.integer({ min: 1, max: 5 }).map((group) => `permit ${group}`) }, { weight: 1, arbitrary: fc.constantFrom('keep', 'module vfio', 'held', 'memlock 4000000 999999999') });
  const words: fc.Arbitrary<string[]> = fc.oneof(
    { weight: 4, arbitrary: fc.tuple(card, fc.oneof(fc.integer({ min: 0, max: 8 }).map(String), fc.constant('restore'))).map(([one, count]) => ['functions', one, count]) },
    { weight: 4, arbitrary: address.map((one) => ['reserve', one]) }, { weight: 2, arbitrary: address.map((one) => ['unreserve', one]) },
    { weight: 3, arbitrary: fc.tuple(machine, fc.integer({ min: 0, max: 2 ** 20 }), granted).map(([id, bytes, addresses]) => ['grant', id, String(bytes), ...addresses]) },
    { weight: 1, arbitrary: machine.map((id) => ['revoke', id]) }, { weight: 4, arbitrary: machine.map((id) => ['granted', id]) }, { weight: 1, arbitrary: fc.constant<string[]>(['grants']) },
  );
  return fc.record({ words, lines: fc.array(line, { maxLength: 6 }), fails: fc.integer({ min: 0, max: 4 }).map((n) => n === 0) });
}

describe('a thousand lasting changes', { skip: uid === 0 && 'an ordinary user\'s test: the owner of a node is the user' }, () => {
  const HOSTS = process.env.VITRINE_LONG === '1' ? 200 : 32;
  const PARTS = 4;
  const STEPS = 31;
  const seed = Number(process.env.VITRINE_SEED ?? Math.floor(Math.random() * 2 ** 30));
  let folder: string;
  let helper: string;
  let executions = 0;
  const met = new Map<string, number>();

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vitrine-model-'));
    helper = join(folder, 'helper');
    compileHelper(helper);
  });
  after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));

  function check(host: FakeHost, model: Model, step: Step): void {
    if (step.fails) host.put('initramfs', 'fail');
    host.forgetLog();
    model.log.length = 0;
    const before = host.snapshot();
    const expected = model.answers(step);
    const { answers, text } = runHelper(helper, host, step.words, step.words[0] === 'granted' ? step.lines : []);
    executions++;
    rmSync(host.path('initramfs'), { force: true });
    for (const code of expected) met.set(`${step.words[0]} ${code}`, (met.get(`${step.words[0]} ${code}`) ?? 0) + 1);
    const where = `${step.words.join(' ')}\n${step.lines.join('\n')}\n${text}`;
    assert.deepEqual(answers.slice(1).map(({ result }) => result), expected, where);
    if (step.words[0] === 'granted') assert.equal(host.snapshot(), before, where);
    else assert.deepEqual(host.log(), model.log, where);
    assert.deepEqual(host.lasting(), model.lasting, where);
    assert.deepEqual((host.text('etc/modprobe.d/vitrine.conf') ?? '').split('\n').filter((line) => line !== '' && !line.startsWith('#')), model.conf, where);
    assert.deepEqual(host.journals(), [], where);
    if (step.words[0] === 'grants') assert.deepEqual(text.split('\n').filter((line) => line.startsWith('grant ')), model.lasting.filter((line) => line.startsWith('grant ')));
  }

  for (let part = 0; part < PARTS; part++) it(`do what the rules say and nothing else, part ${part + 1} of ${PARTS} (VITRINE_SEED=${seed})`, () => {
    for (let index = part; index < HOSTS; index += PARTS) {
      const devices = randomDevices(seed + index);
      const mounts = [...devices.values()].filter(({ mounted }) => mounted).map(({ disks }) => ({ number: disks![0]!.number, at: '/a' }));
      const host = new FakeHost({ devices: [...devices.values()], mounts }, folder);
      try {
        const own = (): string => host.snapshot().split('\n').filter((line) => !line.includes('drivers/iavf')).join('\n');
        const initial = own();
        const model = new Model(devices);
        for (const step of fc.sample(stepsOf(devices), { seed: seed + index, numRuns: STEPS })) check(host, model, step);
        const removed = runHelper(helper, host, ['remove']);
        executions++;
        assert.equal(removed.result, 'ok', removed.text);
        assert.equal(own(), initial);
        assert.deepEqual([host.text('etc/modprobe.d/vitrine.conf'), existsSync(host.path('var/lib/vitrine'))], [null, false]);
      } finally {
        host.remove();
      }
    }
  });

  it('were a thousand, and met the rules', () => {
    assert.ok(executions >= 1000, `${executions} executions`);
    // Those that chance meets surely; changes.test.ts has every one.
    const rules = ['functions ok', 'functions no-record', 'functions functions', 'reserve ok', 'reserve bridge', 'reserve twin', 'reserve mounted', 'unreserve ok', 'unreserve no-record', 'grant ok', 'grant no-device', 'revoke ok', 'revoke no-record',
      'granted ok', 'granted not-granted', 'granted not-viable', 'granted no-group', 'grants ok'];
    for (const rule of rules) assert.ok((met.get(rule) ?? 0) > 0, `${rule} was never met: ${JSON.stringify([...met])}`);
  });
});
