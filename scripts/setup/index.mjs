// Set-up: brings what is missing on a fresh clone, in the order in which one needs the other. Everything is skipped that is there, so a
// second run takes a fraction of a second. Only Node's own modules may be used before `npm ci` has run.
import { buildGuests } from './guests.mjs';
import { buildNative } from './native.mjs';
import { prepareInstaller } from './installer.mjs';
import { prepareNpm } from './npm.mjs';
import { preparePackages } from './packages.mjs';
import { SetupError } from './run.mjs';
import { prepareTryLinux } from './try-linux.mjs';

/** Packages of the system, npm packages, native code, guests: what both commands need. */
export async function prepareSources(purposes) {
  await preparePackages(purposes);
  await prepareNpm();
  await buildNative();
  await buildGuests();
}

/** "Try Linux", which may be left out. */
export async function prepareGuestMachines() {
  try {
    await prepareTryLinux();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.log(`  The machine "Try Linux" is left out: ${error.message}`);
  }
}

/** The lab: QEMU, kernels for its host, its initramfs. */
export async function prepareLabHost() {
  const { prepareLab } = await import('./lab.mjs');
  let said = false;
  const start = performance.now();
  await prepareLab({
    log: (line) => {
      said = true;
      console.log(`· ${line} …`);
    },
  });
  if (said) console.log(`  the lab is ready, after ${((performance.now() - start) / 1000).toFixed(1)} s`);
}

/** The guest of the installer's test, which is skipped where it cannot be had. */
export async function prepareTestGuests() {
  try {
    await prepareInstaller();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.log(`  The test of Debian's installer will be skipped: ${error.message}`);
  }
}

/** Runs a command's main function: a SetupError is printed as it is, anything else with its stack; either ends with exit code 1. */
export async function main(work) {
  try {
    process.exitCode = (await work()) ?? 0;
  } catch (error) {
    console.error(error instanceof SetupError ? `\n${error.message}` : error);
    process.exitCode = 1;
  }
}

