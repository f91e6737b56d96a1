// Full frames a second on the canvas of the app: the demo at full speed on this host's /dev/kvm, in real Electron and in Chromium, through the
// front, against a bare loop that sends as many bytes the same way (bench/display-app/). Needs Electron, Chromium and Xvfb, as the tests do.
// Run: scripts/node24 bench/display-app.ts
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

if (existsSync('/dev/kvm')) {
  process.exitCode = spawnSync(process.execPath, [fileURLToPath(new URL('./display-app/launch.mjs', import.meta.url))], { stdio: 'inherit' }).status ?? 1;
} else console.log('Left out: this host has no /dev/kvm.');
