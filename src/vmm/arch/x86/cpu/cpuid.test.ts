import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type CpuidEntry, type CpuidOptions, encodeCpuid, guestCpuid, hasVmx, parseCpuid, signature, supportedPhysBits } from './cpuid.ts';

const leaf = (fn: number, values: Partial<CpuidEntry> = {}, index?: number): CpuidEntry => ({
  function: fn, index: index ?? 0, flags: index === undefined ? 0 : 1, eax: 0, ebx: 0, ecx: 0, edx: 0, ...values,
});

/** Shaped like a server of Intel's: two packages of 8 cores with 2 threads. */
const INTEL: CpuidEntry[] = [
  leaf(0, { eax: 0x1f, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 }),
  leaf(1, { eax: 0x000606a6, ebx: 0x05_20_08_00, ecx: 0xfffa3203 | 0x8 | 0x20, edx: 0x1f8bfbff }),
  leaf(4, { eax: 0x1c004121, ebx: 0x02c0003f, ecx: 0x3f }, 0), leaf(4, { eax: 0x1c004122 }, 1), leaf(4, { eax: 0x1c004143 }, 2), leaf(4, { eax: 0x1c03c163 }, 3), leaf(4, {}, 4),
  leaf(5, { eax: 0x40, ebx: 0x40, ecx: 3 }),
  leaf(7, { eax: 2, ebx: 0xf1bf07af, ecx: 0x40405fce, edx: 0xbfc14410 }, 0),
  leaf(0xa, { eax: 0x08300805, edx: 0x8604 }),
  leaf(0xb, { eax: 1, ebx: 2, ecx: 0x100, edx: 5 }, 0), leaf(0xb, { eax: 4, ebx: 16, ecx: 0x201, edx: 5 }, 1),
  leaf(0xd, { eax: 0x2e7, ebx: 0xa88, ecx: 0xa88 }, 0), leaf(0xd, { eax: 0xf }, 1),
  leaf(0x15, { eax: 2, ebx: 208, ecx: 25_000_000 }),
  leaf(0x1e, { eax: 1 }, 0),
  leaf(0x1f, { eax: 1, ebx: 2, ecx: 0x100, edx: 5 }, 0),
  leaf(0x40000000, { eax: 0x40000001, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d }), leaf(0x40000001, { eax: 0x01007efb }),
  leaf(0x80000000, { eax: 0x80000008 }), leaf(0x80000001, { ecx: 0x121, edx: 0x2c100800 }), leaf(0x80000008, { eax: 0x392e }),
];

/** Shaped like one of AMD's. */
const AMD: CpuidEntry[] = [
  leaf(0, { eax: 0x10, ebx: 0x68747541, ecx: 0x444d4163, edx: 0x69746e65 }),
  leaf(1, { eax: 0x00a10f11, ebx: 0x0020_0800, ecx: 0x81202000, edx: 0x078bfbff }),
  leaf(0xb, {}, 0),
  leaf(0x40000000, { eax: 0x40000001, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d }),
  leaf(0x80000000, { eax: 0x80000026 }), leaf(0x80000001, { ecx: 0x20c00393 | (1 << 23) | (1 << 28), edx: 0x23d3fbff }),
  leaf(0x80000008, { eax: 0x3030, ebx: 0x10000005, ecx: 0x7001 }),
  leaf(0x8000001d, { eax: 0x04121 }, 0), leaf(0x8000001d, { eax: 0x3c163 }, 3),
  leaf(0x8000001e, { eax: 9, ebx: 0x104, ecx: 0x301 }), leaf(0x8000001f, { eax: 0xb, ebx: 0x33 }), leaf(0x80000026, { ebx: 7 }, 0),
];

const OPTIONS: CpuidOptions = { cpus: 6, apicId: 3, tscKhz: 2_600_000, physBits: 40, tscDeadline: true };

const get = (entries: readonly CpuidEntry[], fn: number, index = 0): CpuidEntry => {
  const found = entries.filter((e) => e.function === fn && e.index === index);
  assert.equal(found.length, 1, `leaf 0x${fn.toString(16)}.${index}`);
  return found[0];
};

describe('cpuid', () => {
  it('survives KVM\'s form', () => {
    assert.deepEqual(parseCpuid(encodeCpuid(INTEL)), INTEL.map((e) => ({ ...e, ecx: e.ecx >>> 0 })));
  });

  it('gives one package of N cores, one thread each, by every leaf that says so', () => {
    const cpu = guestCpuid(INTEL, OPTIONS);
    const one = get(cpu, 1);
    assert.deepEqual([one.ebx >>> 24, (one.ebx >>> 16) & 0xff, (one.ebx >>> 8) & 0xff], [3, 8, 8]);
    assert.notEqual(one.edx & (1 << 28), 0);
    assert.deepEqual([0, 1, 2, 3].map((i) => (get(cpu, 4, i).eax >>> 14) & 0xfff), [0, 0, 0, 7]);
    assert.deepEqual([0, 1, 2, 3].map((i) => get(cpu, 4, i).eax >>> 26), [7, 7, 7, 7]);
    assert.equal(get(cpu, 4, 4).eax, 0);
    for (const fn of [0xb, 0x1f]) {
      assert.deepEqual(get(cpu, fn, 0), leaf(fn, { eax: 0, ebx: 1, ecx: 0x100, edx: 3 }, 0));
      assert.deepEqual(get(cpu, fn, 1), leaf(fn, { eax: 3, ebx: 6, ecx: 0x201, edx: 3 }, 1));
      assert.deepEqual(get(cpu, fn, 2), leaf(fn, { ecx: 2, edx: 3 }, 2));
    }
    const single = guestCpuid(INTEL, { ...OPTIONS, cpus: 1, apicId: 0 });
    assert.equal(get(single, 1).edx & (1 << 28), 0);
    assert.deepEqual([get(single, 0xb, 1).eax, get(single, 0xb, 1).ebx], [0, 1]);
  });

  it('gives AMD\'s leaves alike', () => {
    const cpu = guestCpuid(AMD, OPTIONS);
    assert.equal((get(cpu, 1).ebx >>> 16) & 0xff, 6);
    assert.equal(get(cpu, 0x80000008).ecx, 5 | (3 << 12));
    assert.equal(get(cpu, 0x80000008).eax, 0x3028);
    assert.deepEqual(get(cpu, 0x8000001e), leaf(0x8000001e, { eax: 3, ebx: 3 }));
    assert.deepEqual([0, 3].map((i) => (get(cpu, 0x8000001d, i).eax >>> 14) & 0xfff), [0, 5]);
    assert.notEqual(get(cpu, 0x80000001).ecx & 2, 0, 'CmpLegacy');
    assert.equal(get(cpu, 0x80000001).ecx & ((1 << 23) | (1 << 28) | (1 << 29)), 0);
    for (const fn of [0x8000001f, 0x80000026]) assert.deepEqual([get(cpu, fn).eax, get(cpu, fn).ebx], [0, 0]);
    assert.deepEqual(cpu.filter((e) => e.function === 0x15 || e.function === 0x16 || e.function === 0x1f), []);
  });

  it('shows a hypervisor, x2APIC, no MONITOR, no PMU', () => {
    const cpu = guestCpuid(INTEL, OPTIONS);
    const { ecx } = get(cpu, 1);
    for (const [bit, on] of [[31, 1], [21, 1], [24, 1], [3, 0], [15, 0], [27, 0]] as const) assert.equal((ecx >>> bit) & 1, on, `bit ${bit}`);
    assert.equal((get(guestCpuid(INTEL, { ...OPTIONS, tscDeadline: false }), 1).ecx >>> 24) & 1, 0);
    assert.deepEqual([get(cpu, 5).eax, get(cpu, 0xa).eax, get(cpu, 0x1e).eax], [0, 0, 0]);
    assert.equal(get(guestCpuid(INTEL, { ...OPTIONS, pmu: true }), 0xa).eax, 0x08300805);
    assert.equal(get(cpu, 7).edx & ((1 << 22) | (1 << 24) | (1 << 25)), 0, 'no AMX without its state');
    assert.equal(get(cpu, 7).ebx & 4, 0, 'no SGX');
    assert.equal(hasVmx(cpu), true);
    assert.equal(signature(cpu), 0x000606a6);
    assert.equal(supportedPhysBits(INTEL), 0x2e);
  });

  it('has KVM\'s leaves and the frequencies', () => {
    const cpu = guestCpuid(INTEL, OPTIONS);
    assert.deepEqual(get(cpu, 0x40000000), leaf(0x40000000, { eax: 0x40000010, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d }));
    assert.equal(get(cpu, 0x40000001).eax, 0x01007efb);
    assert.deepEqual(get(cpu, 0x40000010), leaf(0x40000010, { eax: 2_600_000, ebx: 1_000_000 }));
    assert.deepEqual(get(cpu, 0x15), leaf(0x15, { eax: 5, ebx: 13, ecx: 1_000_000_000 }));
    assert.deepEqual(get(cpu, 0x16), leaf(0x16, { eax: 2600, ebx: 2600, ecx: 1000 }));
    const odd = guestCpuid(INTEL, { ...OPTIONS, tscKhz: 2_599_997 });
    assert.equal(get(odd, 0x15).eax, 0, 'a fraction that guests cannot compute is not given');
    assert.equal(get(odd, 0x40000010).eax, 2_599_997);
    const unknown = guestCpuid(INTEL, { ...OPTIONS, tscKhz: 0 });
    assert.equal(get(unknown, 0x40000000).eax, 0x40000001);
    assert.equal(unknown.some((e) => e.function === 0x40000010), false);
  });

  it('gives every vCPU an id of its own that fits the shift, and each leaf once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 255 }), fc.constantFrom(INTEL, AMD), fc.nat(254), (cpus, supported, n) => {
        const apicId = n % cpus;
        const cpu = guestCpuid(supported, { ...OPTIONS, cpus, apicId });
        const core = get(cpu, 0xb, 1);
        assert.equal(core.edx, apicId);
        assert.equal(apicId >> core.eax, 0, 'one package');
        assert.equal(new Set(cpu.map((e) => `${e.function}.${e.index}`)).size, cpu.length);
        assert.ok(cpu.every((e) => [e.eax, e.ebx, e.ecx, e.edx].every((v) => Number.isInteger(v) && v >= 0 && v < 2 ** 32)));
        assert.deepEqual(cpu, cpu.toSorted((a, b) => a.function - b.function || a.index - b.index));
      }),
    );
  });
});
