// Electron 45's main process for an application that runs on 22: what is missing there, as far as Vitrine uses it.
require('./node.js');
const { app, net, protocol, utilityProcess } = require('electron');
const { readFile } = require('fs').promises;
const { extname, join } = require('path');
const { Readable } = require('stream');
const { fileURLToPath } = require('url');

// This V8 has growable SharedArrayBuffers behind a flag.
const growable = '--harmony-rab-gsab';
app.commandLine.appendSwitch('js-flags', growable);

// A utility process starts with utility.js, which prepares it and then becomes its entry.
const fork = utilityProcess.fork.bind(utilityProcess);
utilityProcess.fork = (entry, words = [], options = {}) =>
  fork(join(__dirname, 'utility.js'), [entry, ...words], { ...options, execArgv: [`--js-flags=${growable}`, ...(options.execArgv ?? [])] });

/** protocol.handle(scheme, request => Response) on top of registerStreamProtocol. */
function handle(scheme, handler) {
  const registered = this.registerStreamProtocol(scheme, async ({ url, method, headers, uploadData = [] }, answer) => {
    try {
      const sent = uploadData.map((part) => part.bytes).filter(Boolean);
      const response = await handler(new Request(url, { method, headers, body: sent.length > 0 ? Buffer.concat(sent) : undefined }));
      answer({ statusCode: response.status, headers: Object.fromEntries(response.headers), data: Readable.from(response.body ?? []) });
    } catch (error) {
      console.error(error);
      answer({ error: -2 });   // net::ERR_FAILED
    }
  });
  if (!registered) throw new Error(`There is a handler of ${scheme}: already.`);
}
function addHandle(one) {
  one.handle ??= handle;
  one.unhandle ??= one.unregisterProtocol;
}
addHandle(protocol);
app.on('session-created', (one) => {
  addHandle(one.protocol);
  one.setPreloads([...one.getPreloads(), join(__dirname, 'preload.js')]);
});

const types = {
  css: 'text/css', html: 'text/html', js: 'text/javascript', json: 'application/json', mjs: 'text/javascript',
  png: 'image/png', svg: 'image/svg+xml', wasm: 'application/wasm', woff2: 'font/woff2',
};
net.fetch ??= async (input, options) => {
  const url = String(input.url ?? input);
  if (!url.startsWith('file:')) return fetch(input, options);
  const path = fileURLToPath(url);
  const body = await readFile(path).catch(() => { throw new TypeError('net::ERR_FILE_NOT_FOUND'); });
  return new Response(body, { headers: { 'content-type': types[extname(path).slice(1)] ?? 'application/octet-stream' } });
};
