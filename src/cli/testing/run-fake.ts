// `vitrine run` with the fake machine process behind it, for tests of its exit codes: run-fake.ts BEHAVIOUR (fake-entry.ts has them).
import { fileURLToPath } from 'node:url';
import { run } from '../run.ts';

const code = await run(
  {
    machine: { name: 'Fake', memory: 64 * 2 ** 20, cpus: 1, boot: { kernel: process.argv[2] }, onReset: 'stop' },
    terminal: 'serial',
    choice: { kvm: { usable: true, canBootLinux: true, problem: null }, backend: { linux: 'kvm', freestanding: 'kvm' }, forced: false, why: '' },
    entry: fileURLToPath(new URL('../../vmm/server/testing/fake-entry.ts', import.meta.url)),
  },
  { out: (text) => void process.stdout.write(text), err: (text) => void process.stderr.write(text) },
);
process.exit(code);
