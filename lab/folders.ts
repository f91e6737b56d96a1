// The private folder in which one run of a lab keeps its configuration and control socket until the lab has read them.

import fs from 'node:fs';
import path from 'node:path';
import { runtimeFolder } from '../src/vmm/server/runtime-folder.ts';

/** A new private folder for one lab; what labs whose process is gone have left is removed on the way. */
export function newRunFolder(): string {
  const runtime = runtimeFolder();
  for (const entry of fs.readdirSync(runtime)) {
    const pid = /^lab-run-(\d+)-/.exec(entry)?.[1];
    if (pid !== undefined && !fs.existsSync(`/proc/${pid}`)) fs.rmSync(path.join(runtime, entry), { recursive: true, force: true });
  }
  return fs.mkdtempSync(path.join(runtime, `lab-run-${process.pid}-`));
}
