// `vitrine serve` as a process of its own, for those who start it without the CLI: [--port N].
import { parseArgs } from 'node:util';
import { sentence, toProblem } from '../../shared/errors.ts';
import { serve } from './serve.ts';

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } });
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new RangeError(`a port is a number from 0 to 65535, not "${values.port}".`);
  await serve(port, (line) => process.stdout.write(`${line}\n`));
}

main().then(
  () => process.exit(0),
  (thrown: unknown) => {
    process.stderr.write(`${sentence(toProblem(thrown, 'serve the pages'))}\n`);
    process.exit(1);
  },
);
