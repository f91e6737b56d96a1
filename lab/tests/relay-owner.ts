// Runs the relay with the stand-in as its machine, in a process of its own: relay-owner.ts FOLDER SOCKET.
import { fileURLToPath } from 'node:url';
import { relayMachine } from '../../src/main/lab-relay.ts';

const [, , folder, socketPath] = process.argv;
const standIn = fileURLToPath(new URL('./machine-stand-in.mjs', import.meta.url));
process.exit(await relayMachine({ folder: folder!, socketPath: socketPath!, command: [process.execPath, standIn], env: { ...process.env, VITRINE_ASKED: 'yes' } }));
