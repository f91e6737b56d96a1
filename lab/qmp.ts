// A few commands to QEMU over its control socket (QMP, docs/interop/qmp-spec): one JSON object a line, answered in order. Events are
// skipped.

import net from 'node:net';

export class Qmp {
  private readonly socket: net.Socket;
  private pending = '';
  private waiting: ((answer: { return?: unknown; error?: { desc: string } }) => void)[] = [];

  /** Connects to the socket and negotiates. */
  static async connect(path: string): Promise<Qmp> {
    const socket = net.connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', reject);
    });
    const qmp = new Qmp(socket);
    await qmp.execute('qmp_capabilities');
    return qmp;
  }

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.setEncoding('utf8');
    socket.unref();
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const wait of this.waiting.splice(0)) wait({ error: { desc: 'QEMU has ended' } });
    });
    socket.on('data', (text: string) => {
      this.pending += text;
      for (let end = this.pending.indexOf('\n'); end >= 0; end = this.pending.indexOf('\n')) {
        const message = JSON.parse(this.pending.slice(0, end)) as { return?: unknown; error?: { desc: string } };
        this.pending = this.pending.slice(end + 1);
        if ('return' in message || 'error' in message) this.waiting.shift()?.(message);
      }
    });
  }

  /** @throws Error with QEMU's words */
  async execute(command: string, args?: Record<string, unknown>): Promise<unknown> {
    const answer = await new Promise<{ return?: unknown; error?: { desc: string } }>((resolve) => {
      this.waiting.push(resolve);
      this.socket.write(JSON.stringify({ execute: command, ...(args === undefined ? {} : { arguments: args }) }) + '\n');
    });
    if (answer.error !== undefined) throw new Error(`QEMU refused ${command}: ${answer.error.desc}`);
    return answer.return;
  }

  /** The port of 127.0.0.1 that QEMU chose to forward to `guestPort`. */
  async forwardedPort(guestPort: number): Promise<number> {
    const table = String(await this.execute('human-monitor-command', { 'command-line': 'info usernet' }));
    for (const line of table.split('\n')) {
      // "TCP[HOST_FORWARD]  13       127.0.0.1 42345       10.0.2.15  7080     0     0"
      const match = /TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)/.exec(line);
      if (match !== null && Number(match[2]) === guestPort) return Number(match[1]);
    }
    throw new Error(`QEMU forwards no port to the lab's agent:\n${table}`);
  }

  close(): void {
    this.socket.destroy();
  }
}
