// Descriptors that a process was given by accident. libuv hands a child every descriptor without FD_CLOEXEC, and Chromium opens some so
// (its debugging socket, its connection to the display): a machine that outlives Electron would hold them open, and the port with them.
// Node itself opens nothing at its start but anonymous inodes, pipes and /dev/null, so anything else there came from the parent. Pipes and
// eventfds of the parent cannot be told from Node's own, except by a missing FD_CLOEXEC, and else stay. proc(5), /proc/PID/fdinfo.
import { closeSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';

const O_CLOEXEC = 0o2000000;
/** Standard input, output and error. */
const FIRST_OTHER = 3;
const ofNode = /^(anon_inode:|pipe:|\/dev\/null$|\/proc\/)/;

/** Closes what was inherited beyond the standard three and `keep`. Call it before the process opens anything. @returns the numbers closed */
export function closeInherited(keep: readonly number[] = []): number[] {
  const closed: number[] = [];
  const channel = Number(process.env.NODE_CHANNEL_FD ?? -1);
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    if (fd < FIRST_OTHER || fd === channel || keep.includes(fd)) continue;
    try {
      const flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '', 8);
      if ((flags & O_CLOEXEC) !== 0 && ofNode.test(readlinkSync(`/proc/self/fd/${fd}`))) continue;
      closeSync(fd);
      closed.push(fd);
    } catch {
      // It was the descriptor of the listing itself.
    }
  }
  return closed;
}
