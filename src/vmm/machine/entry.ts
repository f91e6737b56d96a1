// Where a thread's or process's first file lies: beside this one as .ts when run from source, in out/main as .js when bundled.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(import.meta.url);
/** True when Node runs the sources themselves. */
export const fromSource = here.endsWith('.ts');

/** The file of the vCPU Worker, or of the machine process. */
export function entryFile(name: 'vcpu' | 'machine'): string {
  if (!fromSource) return join(dirname(here), `${name}.js`);
  return join(dirname(here), name === 'vcpu' ? 'vcpu-worker.ts' : 'main.ts');
}

/** libvitrine.so: the native part. */
export function nativeLibrary(): string {
  return fromSource ? join(dirname(here), '../../../build/native/libvitrine.so') : join(dirname(here), '../../build/native/libvitrine.so');
}
