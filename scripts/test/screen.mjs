// An X server without a screen, with a small window manager, for the windows of the tests.
import { spawn } from 'node:child_process';
import { SetupError } from '../setup/run.mjs';

const size = '1920x1200x24';

/** Starts both; returns { display, stop }. */
export async function startScreen() {
  const server = spawn('Xvfb', ['-displayfd', '3', '-screen', '0', size, '-nolisten', 'tcp', '-noreset'], { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
  let said = '';
  server.stderr.setEncoding('utf8').on('data', (text) => { said += text; });
  const number = await new Promise((done, failed) => {
    server.stdio[3].setEncoding('utf8').on('data', (text) => done(text.trim()));
    server.on('error', failed);
    server.on('exit', (code) => failed(new SetupError(`Xvfb ended with ${code}:\n${said}`)));
  });
  const display = `:${number}`;
  const manager = spawn('openbox', [], { stdio: 'ignore', env: { ...process.env, DISPLAY: display } });
  manager.on('error', () => console.log('  There is no openbox: windows have no manager.'));
  const stop = () => {
    manager.kill();
    server.kill();
  };
  process.on('exit', stop);
  return { display, stop };
}
