// Locks of byte ranges: lock, getlock. The guest's kernel keeps them among its own processes before it asks; here they are granted. A program of the
// host, or of another machine with the same folder, is not kept out by them, nor keeps a guest out: as QEMU has it.
import { constants } from 'node:os';
import { LOCK_SUCCESS, LOCK_TYPE_READ, LOCK_TYPE_UNLOCK, LOCK_TYPE_WRITE } from './protocol.ts';
import type { Call } from './request.ts';

const { EBADF, EINVAL } = constants.errno;

const isType = (type: number): boolean => type === LOCK_TYPE_READ || type === LOCK_TYPE_WRITE || type === LOCK_TYPE_UNLOCK;

/** Tlock: fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s] -> status[1]. */
export function lock({ share, request, reply }: Call): number {
  const number = request.u32();
  const type = request.u8();
  request.u32();
  request.u64();
  request.u64();
  request.u32();
  request.string();
  if (!request.whole() || !isType(type)) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined || fid.file < 0) return -EBADF;
  reply.u8(LOCK_SUCCESS);
  return 0;
}

/** Tgetlock: fid[4] type[1] start[8] length[8] proc_id[4] client_id[s] -> the same without the fid: nobody holds a lock. */
export function getlock({ share, request, reply }: Call): number {
  const number = request.u32();
  const type = request.u8();
  const range = [request.u32(), request.u32(), request.u32(), request.u32()] as const;
  const process = request.u32();
  const client = request.string();
  if (!request.whole() || !isType(type)) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined || fid.file < 0) return -EBADF;
  reply.u8(LOCK_TYPE_UNLOCK);
  reply.u64(range[0], range[1]);
  reply.u64(range[2], range[3]);
  reply.u32(process);
  reply.string(client);
  return 0;
}
