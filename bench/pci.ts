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
  let one = 0;
  for (const cpus of CPUS) {
    const row = [String(cpus)];
    for (const same of [false, true]) {
      if (cpus === 1 && same) {
        row.push('', '');
        continue;
      }
      const rates = await measureMmio(cpus, same, WINDOWS);
      one ||= median(rates);
      row.push((median(rates) / 1000).toFixed(0), (median(rates) / one).toFixed(2));
    }
    rows.push(row);
  }
  printTable(['vCPUs', 'thousand reads a second, a device each', 'to 1 vCPU', 'all of one device', 'to 1 vCPU'], rows);
  console.log(`Reads of a register of a PCI test device by a guest that does nothing else; medians of ${WINDOWS} times half a second.`);
}
process.exit();
