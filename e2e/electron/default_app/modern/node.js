// Node 24 for a program that runs on Node 16, in any thread: the language's library by core-js, fetch by undici, and what else is used.
require('core-js-bundle');
const { execFileSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const { join } = require('path');
const undici = require('undici');
const threads = require('worker_threads');

/** Defines what is not there. */
function add(object, name, value) {
  if (object[name] === undefined) Object.defineProperty(object, name, { value, configurable: true, writable: true });
}

// In place of core-js's, which copies SharedArrayBuffers instead of sharing them.
Object.defineProperty(globalThis, 'structuredClone', {
  configurable: true,
  writable: true,
  value(value, options) {
    const { port1, port2 } = new threads.MessageChannel();
    try {
      port1.postMessage(value, options?.transfer);
      return threads.receiveMessageOnPort(port2).message;
    } finally {
      port1.close();
    }
  },
});

for (const name of ['fetch', 'Headers', 'Request', 'Response', 'FormData']) add(globalThis, name, undici[name]);
add(globalThis, 'crypto', require('crypto').webcrypto);
add(os, 'availableParallelism', () => os.cpus().length);

// readdir(…, { recursive: true }) came with Node 18.17.
const list = fs.promises.readdir.bind(fs.promises);
fs.promises.readdir = async function readdir(top, options) {
  if (!options?.recursive) return list(top, options);
  const found = [];
  for (const entry of await list(top, { withFileTypes: true })) {
    found.push(entry.name);
    if (entry.isDirectory()) found.push(...(await readdir(join(top, entry.name), options)).map((below) => join(entry.name, below)));
  }
  return found;
};

// statfs came with Node 18.15.
const statfsFields = ['type', 'bsize', 'blocks', 'bfree', 'bavail', 'files', 'ffree'];
function statfs(path) {
  const words = execFileSync('stat', ['-f', '-c', '0x%t %S %b %f %a %c %d', '--', path], { encoding: 'utf8' }).split(' ');
  return Object.fromEntries(statfsFields.map((name, i) => [name, Number(words[i])]));
}
add(fs, 'statfsSync', statfs);
add(fs.promises, 'statfs', async (path) => statfs(path));

add(AbortSignal, 'any', (signals) => {
  const one = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) {
      one.abort(signal.reason);
      break;
    }
    signal.addEventListener('abort', () => one.abort(signal.reason), { once: true, signal: one.signal });
  }
  return one.signal;
});

// A Worker does not start with what its parent required: it gets this file first.
const Plain = threads.Worker;
threads.Worker = class Worker extends Plain {
  constructor(file, options = {}) {
    super(file, { ...options, execArgv: ['-r', __filename, ...(options.execArgv ?? [])] });
  }
};
