// `vitrine start --revert SECONDS`: the machines stop again by themselves unless somebody presses Enter. For a machine that has the only graphics
// card: whoever started it sees nothing any more, and when the guest shows nothing either, the picture comes back without a word. The end of
// the terminal (a desktop that goes, an SSH connection that breaks) is no yes.
import type { Readable } from 'node:stream';
import { isHeld } from '../vmm/server/run-record.ts';
import { Library } from '../main/library/library.ts';
import { EXIT_OK } from './exit-codes.ts';
import type { Output } from './machines.ts';
import { stop } from './machines.ts';

const LOOK = 100;
const GRACE = 20;

/** A time as people say it: "5 minutes", "90 seconds". */
function timeWords(seconds: number): string {
  const [number, unit] = seconds >= 120 && seconds % 60 === 0 ? [seconds / 60, 'minute'] : [seconds, 'second'];
  return `${number} ${unit}${number === 1 ? '' : 's'}`;
}

export interface RevertOptions {
  /** Where Enter is pressed. */
  input?: Readable;
  /** Seconds that guests have to shut down before their power is cut. */
  grace?: number;
}

/** Waits for a line, for the machines' own end, or for the time to be over, `seconds`. The machines run. */
export async function revertUnlessKept(names: string[], seconds: number, output: Output, { input = process.stdin, grace = GRACE }: RevertOptions = {}): Promise<number> {
  const library = new Library();
  const folders = names.map((name) => library.folderOf(library.find(name)));
  const many = names.length > 1;
  output.err(`${names.join(', ')} ${many ? 'stop' : 'stops'} in ${timeWords(seconds)}, and the computer has its devices back, unless you press Enter.\n`);
  let kept = false;
  const onData = (text: string | Buffer): void => void (kept ||= text.includes('\n'));
  const survive = (): void => {};
  input.on('data', onData).on('error', survive);
  process.on('SIGHUP', survive);
  try {
    for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; await new Promise((resolve) => setTimeout(resolve, LOOK))) {
      if (kept) {
        output.err(many ? 'They go on.\n' : 'It goes on.\n');
        return EXIT_OK;
      }
      if (!folders.some((folder) => isHeld(folder))) return EXIT_OK;
    }
    const running = names.filter((_, at) => isHeld(folders[at]));
    output.err(`Nobody pressed Enter: stopping ${running.join(', ')}.\n`);
    const shut = await stop(running, false, grace, { out: () => {}, err: () => {} });
    return shut === EXIT_OK ? shut : await stop(running.filter((name) => isHeld(library.folderOf(library.find(name)))), true, grace, output);
  } finally {
    input.off('data', onData).pause();
    process.off('SIGHUP', survive);
  }
}
