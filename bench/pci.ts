// PCI: what moving a BAR costs, with 1 and with 32 devices, without KVM and with its memory slots; and how many accesses to devices several
// vCPUs make in a second, each to a device of its own and all to the same one. What a lookup on a bus costs is in bus-lookup.ts.
// Run: scripts/node24 bench/pci.ts
import { existsSync } from 'node:fs';
import { buildMover, type MoveKind } from './pci/move.ts';
import { measureMmio } from './pci/mmio.ts';
import { machineFacts, median, printTable, spread } from './support/report.ts';

const ROUNDS = 21;
const MOVES: Record<MoveKind, number> = { trapped: 2000, mapped: 2000, kvm: 200 };
const NAMES: Record<MoveKind, string> = { trapped: 'no memory behind it', mapped: '64 KiB of memory, without KVM', kvm: "64 KiB of memory, KVM's slots" };
const DEVICES = [1, 32];
const CPUS = [1, 2, 4];
const WINDOWS = 9;

function movesRow(kind: MoveKind): string[] {
  return [NAMES[kind], ...DEVICES.flatMap((devices) => {
    const move = buildMover(kind, devices);
    const moves = MOVES[kind];
    for (let round = 0; round < 3; round++) move(moves);
    const samples = Array.from({ length: ROUNDS }, () => {
      const begin = performance.now();
      move(moves);
      return ((performance.now() - begin) * 1000) / moves;
    });
    return [median(samples).toFixed(1), spread(samples, 1)];
  })];
}

const hasKvm = existsSync('/dev/kvm');
console.log(machineFacts());
const kinds: MoveKind[] = hasKvm ? ['trapped', 'mapped', 'kvm'] : ['trapped', 'mapped'];
printTable(['µs to move a BAR', ...DEVICES.flatMap((devices) => [`${devices} device${devices > 1 ? 's' : ''}`, 'middle half'])], kinds.map(movesRow));
console.log(`One configuration write by ECAM, medians of ${ROUNDS} rounds. No vCPU runs meanwhile.\n`);

if (!hasKvm) console.log('Accesses of vCPUs: left out, this host has no /dev/kvm.');
else {
  console.log(machineFacts());
  const rows: string[][] = [];
  for (const cpus of CPUS) {
    for (const same of cpus === 1 ? [false] : [false, true]) {
      const { rates, costs } = await measureMmio(cpus, same, WINDOWS);
      rows.push([`${cpus} vCPU${cpus > 1 ? `s, ${same ? 'all the same device' : 'a device each'}` : ''}`, (median(rates) / 1000).toFixed(1), spread(rates.map((rate) => rate / 1000), 1), median(costs).toFixed(1), spread(costs, 1)]);
    }
  }
  printTable(['reads of a device', 'thousand a second', 'middle half', 'µs of processor time each', 'middle half'], rows);
  console.log(`A guest that does nothing else reads a register of a PCI test device; medians of ${WINDOWS} times half a second.`);
}
process.exit();
