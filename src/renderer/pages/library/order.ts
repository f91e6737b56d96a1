// The library's order and its search. The order depends on names alone, so no card moves because a machine starts or stops.
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import { nameOf } from '../../state/words.ts';

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

/** The machines that come with Vitrine first, then by name; equal names by id. */
export function inOrder(entries: LibraryEntry[]): LibraryEntry[] {
  const rank = (entry: LibraryEntry): number => (entry.config?.origin === 'builtin' ? 0 : 1);
  return [...entries].sort((a, b) => rank(a) - rank(b) || collator.compare(nameOf(a), nameOf(b)) || (a.id < b.id ? -1 : 1));
}

/** Those whose name has every word of the search, in any order and in any case. */
export function matching(entries: LibraryEntry[], search: string): LibraryEntry[] {
  const words = search.toLocaleLowerCase().split(/\s+/).filter((word) => word !== '');
  if (words.length === 0) return entries;
  return entries.filter((entry) => {
    const name = nameOf(entry).toLocaleLowerCase();
    return words.every((word) => name.includes(word));
  });
}
