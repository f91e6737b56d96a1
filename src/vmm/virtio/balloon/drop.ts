// Gives pages of guest RAM back to the host. What a guest names is checked: it is RAM, and whole pages; pages in a row go together, so that a huge
// page that is named whole goes as one and is not taken apart.
import { advise, MADV_DONTNEED } from '../../kvm/libc.ts';
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { Buffers } from '../buffers.ts';
import { PAGE } from './model.ts';

/** [guest-physical address, bytes] of runs that lie in one window of RAM each, in order; pages that are no RAM are left out. `pages` is sorted by this. */
export function runsOf(ram: GuestMemory, pages: Float64Array): [number, number][] {
  pages.sort();
  const runs: [number, number][] = [];
  let last: [number, number] | undefined;
  let end = -1; // of the window that `last` lies in
  for (const page of pages) {
    if (last !== undefined && page < last[0] + last[1]) continue; // named twice
    if (last !== undefined && page === last[0] + last[1] && page < end) {
      last[1] += PAGE;
      continue;
    }
    const window = ram.windows[ram.windowAt(page)];
    if (window === undefined || page + PAGE > window.gpa + window.size) continue;
    end = window.gpa + window.size;
    runs.push((last = [page, PAGE]));
  }
  return runs;
}

/** Drops runs that runsOf found. */
export function dropRuns(ram: GuestMemory, runs: readonly [number, number][]): void {
  for (const [gpa, bytes] of runs) {
    const window = ram.windowAt(gpa);
    advise(ram.windowHva(window) + gpa - ram.windows[window]!.gpa, bytes, MADV_DONTNEED);
  }
}

/** Drops the whole pages of checked buffers. */
export function dropBuffers(buffers: Buffers): void {
  for (let i = 0; i < buffers.pieces; i++) {
    const start = Math.ceil(buffers.hva(i) / PAGE) * PAGE;
    const end = Math.floor((buffers.hva(i) + buffers.length(i)) / PAGE) * PAGE;
    if (end > start) advise(start, end - start, MADV_DONTNEED);
  }
}
