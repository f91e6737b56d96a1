// The first file of every utility process: `utility.js ENTRY …` prepares it, then runs ENTRY as if that had been started.
require('./node.js');
const Module = require('module');
const [entry] = process.argv.splice(2, 1);
process.argv[1] = entry;
Module._load(entry, null, true);
