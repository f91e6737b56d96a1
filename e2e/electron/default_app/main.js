// In the place of Electron's default app, which a packaged runtime lacks: `electron [-r MODULE]… [--switches] PATH [arguments…]`
// runs the application at PATH, a folder with a package.json or a file.
const { app } = require('electron');
const { readFileSync, statSync } = require('fs');
const Module = require('module');
const { dirname, join, resolve } = require('path');

/** Modules to load first (Playwright's loader is one) and the index of PATH in argv. */
function readCommandLine(words) {
  const modules = [];
  for (let i = 1; i < words.length; i++) {
    const word = words[i];
    if (word === '-r' || word === '--require') modules.push(words[++i]);
    else if (word.startsWith('--require=')) modules.push(word.slice('--require='.length));
    else if (word === '-v' || word === '--version') return { version: true, modules };
    else if (!word.startsWith('-')) return { modules, at: i };
  }
  return { modules };
}

/** Tells Electron the application's name, version and folder, and returns the file to start. */
function adopt(path) {
  if (!statSync(path).isDirectory()) {
    app.setAppPath(dirname(path));
    return path;
  }
  const manifest = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
  const name = manifest.productName || manifest.name;
  if (name) app.name = name;
  if (manifest.version) app.setVersion(manifest.version);
  app.setAppPath(path);
  return join(path, manifest.main || 'index.js');
}

const { version, modules, at } = readCommandLine(process.argv);
if (version) {
  console.log(`v${process.versions.electron}`);
  process.exit(0);
}
if (at === undefined) {
  console.error('usage: electron [-r MODULE]… [--switches] PATH [arguments…]');
  process.exit(2);
}
require('./modern/main.js');
const given = resolve(process.argv[at]);
process.argv.splice(at, 1, given);
for (const name of modules) Module._load(require.resolve(resolve(name)), module, false);
Module._load(require.resolve(adopt(given)), module, true);
