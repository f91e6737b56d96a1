// The browser shell: a front with the built pages, whose address is printed. It runs until it is interrupted; machines run on.
import { join } from 'node:path';
import { topFolder } from '../install.ts';
import { startFront } from '../front/front.ts';

/** Serves until SIGINT, SIGTERM or SIGHUP. @param port 0 for any free one */
export async function serve(port: number, print: (line: string) => void): Promise<void> {
  // Listened to before the address is out: whoever reads it may be quick.
  const told = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
  });
  const front = await startFront({ shell: 'browser', staticDir: join(topFolder(), 'out/renderer'), port });
  print(`Vitrine is open at ${front.url}`);
  print('The address is for you alone: whoever has it controls your machines. Ctrl+C closes it; machines run on.');
  await told;
  await front.close();
}
