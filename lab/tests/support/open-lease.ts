// Run in the lab as the ordinary user: opens a lease by pkexec, binds the device that is named, and lets go of it. Says how it went.
import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { VitrineError } from '../../../src/shared/errors.ts';
import { Lease } from '../../../src/main/lease/lease.ts';

const address = process.argv[2]!;
try {
  const lease = await Lease.open({ lines: [`bind ${address}`] });
  await lease.bind(address);
  console.log(`bound, driver ${basename(readlinkSync(`/sys/bus/pci/devices/${address}/driver`))}`);
  lease.release();
  console.log(`ended with ${await lease.ended}`);
} catch (thrown) {
  if (!(thrown instanceof VitrineError)) throw thrown;
  console.log(`${thrown.problem.code} ${thrown.message}`);
}
