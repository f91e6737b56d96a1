// Nanoseconds of one access on a bus, lookup and mutex and handler, with 10 to 1,000 regions: the same region again, and random ones.
// Run: scripts/node24 bench/bus-lookup.ts
import { Arena } from '../src/vmm/sync/arena.ts';
import { Bus } from '../src/vmm/bus/bus.ts';

const ACCESSES = 4_000_000;
const ROUNDS = 5;

function measure(bus: Bus, addresses: Float64Array): number {
  const mask = addresses.length - 1;
  let sum = 0;
  const begin = process.hrtime.bigint();
  for (let at = 0; at < ACCESSES; at++) sum ^= bus.read(addresses[at & mask]!, 4);
  const nanoseconds = Number(process.hrtime.bigint() - begin) / ACCESSES;
  if (sum === 1) console.log('');
  return nanoseconds;
}

const bare = new Arena().mutex('bare');
const locks = Array.from({ length: ROUNDS }, () => {
  const begin = process.hrtime.bigint();
  for (let at = 0; at < ACCESSES; at++) {
    bare.lock();
    bare.unlock();
  }
  return Number(process.hrtime.bigint() - begin) / ACCESSES;
});
console.log(`a mutex alone, taken and given back: ${Math.min(...locks).toFixed(1)} ns, part of each number below`);
console.log('regions   same region   random regions   (ns an access, best of 5)');
for (const regions of [10, 100, 1000]) {
  const arena = new Arena();
  const bus = new Bus(arena, 'memory');
  const words = new Uint32Array(16);
  bus.publish(
    Array.from({ length: regions }, (_, at) => {
      const start = 0xc000_0000 + at * 0x2000;
      const handler = bus.register(`device ${at}`, { read: (offset) => words[(offset >>> 2) & 15]!, write: () => undefined }, arena.mutex(`device ${at}`));
      return { start, size: 0x1000, handler, base: start };
    }),
  );
  const same = new Float64Array(1024).fill(0xc000_0000 + (regions >> 1) * 0x2000 + 8);
  const random = Float64Array.from({ length: 1024 }, () => 0xc000_0000 + Math.floor(Math.random() * regions) * 0x2000 + 8);
  const best = (addresses: Float64Array): string => Math.min(...Array.from({ length: ROUNDS }, () => measure(bus, addresses))).toFixed(1);
  console.log(`${String(regions).padStart(7)}   ${best(same).padStart(11)}   ${best(random).padStart(14)}`);
}
