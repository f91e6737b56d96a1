// What is built, and for whom. Main and preload become CommonJS for Node 16.17, the renderer is lowered to Chromium 108: the oldest
// Electron that the tests run on (e2e/electron/README.md). Machine processes run the same files under Node 24.
import { readdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'electron-vite';
import type { Plugin } from 'vite';

const root = dirname(fileURLToPath(import.meta.url));
const source = (path: string) => resolve(root, 'src', path);

/** Not bundled, besides Node's and Electron's own modules: native code, and ws with its optional native helpers. */
const external = ['koffi', 'ws', 'bufferutil', 'utf-8-validate'];

/** The project is `"type": "module"`; the folder with the bundles says of itself that it is not. */
const commonJsFolder: Plugin = {
  name: 'vitrine:commonjs-folder',
  generateBundle() {
    this.emitFile({ type: 'asset', fileName: 'package.json', source: `${JSON.stringify({ type: 'commonjs' })}\n` });
  },
};

/** Entries of the main build: each process and Worker has its own. All files lie in one folder, so `import.meta.url` means the same in each. */
const main = {
  electron: source('main/electron/main.ts'),
  machine: source('vmm/machine/main.ts'),
  vcpu: source('vmm/machine/vcpu-worker.ts'),
  io: source('vmm/virtio/io-worker.ts'),
  cli: source('cli/main.ts'),
  serve: source('main/serve/main.ts'),
  probe: source('vmm/kvm/probe-main.ts'),
  disks: source('main/disks/main.ts'),
  'host-devices': source('main/host-devices/main.ts'),
  'host-devices-in-lab': source('main/host-devices/lab-main.ts'),
  'lab-relay': source('main/lab-relay.ts'),
  'lab-keeper': resolve(root, 'lab/keeper.ts'),
  'lab-agent': resolve(root, 'lab/agent.ts'),
};

/** Every page of the renderer: src/renderer/*.html. */
const pages = Object.fromEntries(
  readdirSync(source('renderer')).filter((name) => name.endsWith('.html')).map((name) => [name.slice(0, -'.html'.length), source(`renderer/${name}`)]),
);

export default defineConfig({
  main: {
    plugins: [commonJsFolder],
    build: {
      outDir: resolve(root, 'out/main'),
      target: 'node16.17',
      externalizeDeps: false,
      sourcemap: true,
      rolldownOptions: {
        input: main,
        external,
        output: { format: 'cjs', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' },
      },
    },
  },
  preload: {
    build: {
      outDir: resolve(root, 'out/preload'),
      target: 'node16.17',
      externalizeDeps: false,
      rolldownOptions: {
        input: { index: source('preload/index.ts') },
        external,
        output: { format: 'cjs', entryFileNames: '[name].cjs' },
      },
    },
  },
  renderer: {
    root: source('renderer'),
    plugins: [react()],
    build: {
      outDir: resolve(root, 'out/renderer'),
      target: 'chrome108',
      cssMinify: 'lightningcss',
      modulePreload: { polyfill: false },
      assetsInlineLimit: 0,
      rolldownOptions: { input: pages },
    },
  },
});
