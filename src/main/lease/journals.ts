// The helper's journals in /run/vitrine (native/lease/journal.c), read by anybody: what is held and kept on this host, without asking for
// permission. What matters is decided by the helper, which reads them itself.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Journal {
  name: string;
  uid: number;
  /** The helper that made it; it may be gone. */
  pid: number;
  kept: boolean;
  /** Devices that are not back yet. */
  devices: { address: string; /** '' for none. */ driver: string }[];
}

/** A journal's text; null when it is none, or of another boot. */
export function parseJournal(name: string, text: string, boot: string): Journal | null {
  const [first, ...lines] = text.split('\n').slice(0, -1);
  const head = /^vitrine-lease 1 ([0-9a-f-]{36}) (\d+) (\d+)$/.exec(first ?? '');
  if (head === null || head[1] !== boot) return null;
  const journal: Journal = { name, uid: Number(head[2]), pid: Number(head[3]), kept: false, devices: [] };
  for (const line of lines) {
    const [kind, ...words] = line.split(' ');
    if (kind === 'device') journal.devices.push({ address: words[0]!, driver: words[3] === '-' ? '' : words[3]! });
    else if (kind === 'back' && words[0] === 'device') journal.devices = journal.devices.filter(({ address }) => address !== words[1]);
    else if (kind === 'kept') journal.kept = true;
  }
  return journal;
}

/** Every lease on this host since its last start. */
export function readJournals(run = '/run', proc = '/proc'): Journal[] {
  let names: string[];
  let boot: string;
  try {
    names = readdirSync(join(run, 'vitrine')).filter((name) => /^lease\.[0-9a-f]{16}$/.test(name));
    boot = readFileSync(join(proc, 'sys/kernel/random/boot_id'), 'utf8').trim();
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    try {
      return parseJournal(name, readFileSync(join(run, 'vitrine', name), 'utf8'), boot) ?? [];
    } catch {
      return []; // it ended meanwhile
    }
  });
}
