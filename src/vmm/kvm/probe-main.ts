// Prints what probeKvm found as one line of JSON: run in a child process, so that a KVM that misbehaves hurts nobody.
import { probeKvm } from './probe.ts';

process.stdout.write(`${JSON.stringify(probeKvm(process.argv[2]))}\n`);
