// Which parts of a BAR are mapped into the guest: whole pages that the kernel lets us map, without the pages that the MSI-X table and the
// pending bits touch. Those pages are the only holes; what lies in them beside the table is forwarded access by access.

const PAGE = 4096;

/** Bytes of a BAR or a region, from its start: [offset, offset + size). */
export interface Extent {
  readonly offset: number;
  readonly size: number;
}

/**
 * @param size of the region
 * @param mappable what the kernel lets us map; undefined for all of it
 * @param trapped what the guest must not reach directly
 * @param most pieces at most: the smallest are left out, and so are trapped
 * @returns in ascending order, page-aligned, none adjacent to the next
 */
export function mappedPieces(size: number, mappable: readonly Extent[] | undefined, trapped: readonly Extent[], most: number): Extent[] {
  const holes = trapped
    .filter((hole) => hole.size > 0)
    .map((hole) => ({ start: Math.floor(hole.offset / PAGE) * PAGE, end: Math.ceil((hole.offset + hole.size) / PAGE) * PAGE }))
    .sort((a, b) => a.start - b.start);
  const areas = (mappable ?? [{ offset: 0, size }])
    .map((area) => ({ start: Math.ceil(area.offset / PAGE) * PAGE, end: Math.floor(Math.min(area.offset + area.size, size) / PAGE) * PAGE }))
    .filter((area) => area.end > area.start)
    .sort((a, b) => a.start - b.start);
  const pieces: { start: number; end: number }[] = [];
  const add = (start: number, end: number): void => {
    const last = pieces.at(-1);
    if (end <= start) return;
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else pieces.push({ start, end });
  };
  for (const area of areas) {
    let from = area.start;
    for (const hole of holes) {
      if (hole.end <= from || hole.start >= area.end) continue;
      add(from, hole.start);
      from = hole.end;
    }
    add(from, area.end);
  }
  const kept = [...pieces].sort((a, b) => b.end - b.start - (a.end - a.start)).slice(0, most);
  return pieces.filter((piece) => kept.includes(piece)).map(({ start, end }) => ({ offset: start, size: end - start }));
}
