// What every benchmark prints: where it ran, and a table of medians with the goal beside them.
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release } from 'node:os';

/** @param values at least one; they are left as they are. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The value that `share` of the values lie below. */
export function quantile(values: readonly number[], share: number): number {
  return [...values].sort((a, b) => a - b)[Math.round((values.length - 1) * share)]!;
}

/** The middle half of the values, as "from-to". */
export function spread(values: readonly number[], digits = 0): string {
  return `${quantile(values, 0.25).toFixed(digits)} to ${quantile(values, 0.75).toFixed(digits)}`;
}

/** By what means this host's KVM runs guests. */
function kvmKind(): string {
  try {
    const modules = readFileSync('/proc/modules', 'latin1');
    const module = /^(kvm_(?:amd|intel|pvm)) /m.exec(modules)?.[1];
    if (module !== undefined) return module;
  } catch {
    // No modules here: what is built in is told by the processor's flags.
  }
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'latin1'))?.[1] ?? '';
  if (/ svm\b/.test(flags)) return 'AMD SVM';
  return / vmx\b/.test(flags) ? 'Intel VT-x' : 'KVM without svm or vmx (kvm_pvm)';
}

/** One line on the machine that this runs on. */
export function machineFacts(): string {
  const where = process.env['VITRINE_IN_LAB'] === '1' ? 'in the lab: ' : '';
  return `${where}Linux ${release()}, ${kvmKind()}, ${availableParallelism()} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), load ${loadavg().map((load) => load.toFixed(1)).join(' ')}, Node ${process.versions.node}`;
}

/** Prints rows below headings, the first column to the left, the others to the right. */
export function printTable(headings: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = headings.map((heading, column) => Math.max(heading.length, ...rows.map((row) => row[column]!.length)));
  for (const row of [headings, ...rows]) console.log(row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('   ').trimEnd());
}
