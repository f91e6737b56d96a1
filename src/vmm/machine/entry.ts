// Where a thread's or process's first file lies: beside this one as .ts when run from source, in out/main as .js when bundled.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(import.meta.url);
/** True when Node runs the sources themselves. */
export const fromSource = here.endsWith('.ts');

const SOURCES = { vcpu: 'vcpu-worker.ts', io: '../virtio/io-worker.ts', machine: 'main.ts' } as const;

/** The file of the vCPU's or I/O Worker, or of the machine process. */
export function entryFile(name: keyof typeof SOURCES): string {
  if (!fromSource) return join(dirname(here), `${name}.js`);
  return join(dirname(here), SOURCES[name]);
}

/** libvitrine.so: the native part. */
export function nativeLibrary(): string {
  return fromSource ? join(dirname(here), '../../../build/native/libvitrine.so') : join(dirname(here), '../../build/native/libvitrine.so');
}
