// Starts a lab and waits to be killed: the process of the test "kill -9 leaves nothing behind".
import { startLab } from '../host.ts';

const lab = await startLab();
console.log('up');
await lab.run(['sleep', '1000']);
