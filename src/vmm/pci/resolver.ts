// Who answers where: the one rule for BARs that move, overlap and are sized while they decode. A pure function of the claims.
//   - A claim counts if it decodes and lies wholly in one window. So sizing values (all ones) and half-written 64-bit addresses need no
//     recognising: they end outside, or answer harmlessly until the next write.
//   - Where claims overlap, which PCI 3.0 leaves undefined, the newest answers: the highest sequence number, given when the address changed
//     while decoding or when decode was switched on. What it covered answers again when it goes.
//   - Fixed claims (the devices of the board) need no window and are newer than all others.
import type { Span } from './device.ts';

export interface Claim {
  /** The first address and the number of addresses; more than 0. */
  readonly address: number;
  readonly size: number;
  /** Higher is newer. */
  readonly sequence: number;
  readonly decode: boolean;
  readonly fixed?: boolean;
}

/** A run of addresses that `claim` answers. */
export interface Segment<C extends Claim = Claim> {
  readonly start: number;
  readonly end: number;
  readonly claim: C;
}

function counts(claim: Claim, windows: readonly Span[]): boolean {
  if (!claim.decode) return false;
  if (claim.fixed === true) return true;
  for (const window of windows) if (claim.address >= window.start && claim.address + claim.size <= window.end) return true;
  return false;
}

/**
 * The winning segments, ascending, disjoint, neighbours of one claim joined. Of two claims with the same sequence the later in the list wins.
 */
export function resolve<C extends Claim>(claims: readonly C[], windows: readonly Span[]): Segment<C>[] {
  const edges: { at: number; rank: number; begins: boolean }[] = [];
  const ranked: C[] = claims.filter((claim) => counts(claim, windows)).sort((a, b) => a.sequence - b.sequence || 0);
  ranked.forEach((claim, rank) => {
    edges.push({ at: claim.address, rank, begins: true }, { at: claim.address + claim.size, rank, begins: false });
  });
  edges.sort((a, b) => a.at - b.at);
  const open: number[] = []; // ranks that cover the place, ascending: the last one answers
  const segments: Segment<C>[] = [];
  let index = 0;
  while (index < edges.length) {
    const at = edges[index]!.at;
    while (index < edges.length && edges[index]!.at === at) {
      const edge = edges[index++]!;
      if (edge.begins) {
        let place = open.length;
        while (place > 0 && open[place - 1]! > edge.rank) place--;
        open.splice(place, 0, edge.rank);
      } else open.splice(open.indexOf(edge.rank), 1);
    }
    const rank = open.at(-1);
    const next = edges[index];
    if (rank === undefined || next === undefined) continue;
    const claim = ranked[rank]!;
    const last = segments.at(-1);
    if (last !== undefined && last.claim === claim && last.end === at) segments[segments.length - 1] = { start: last.start, end: next.at, claim };
    else segments.push({ start: at, end: next.at, claim });
  }
  return segments;
}
