// Requests of the SCSI host's driver (virtio 1.3 §5.6.6), copied out of guest RAM and checked.
import type { Buffers } from '../buffers.ts';
import { QueueError, type Chain } from '../queue/virtqueue.ts';
import { CONTROL_QUEUE } from './model.ts';

// Responses (§5.6.6.1)
export const RESPONSE_OK = 0;
export const RESPONSE_OVERRUN = 1;
export const RESPONSE_ABORTED = 2;
export const RESPONSE_BAD_TARGET = 3;
export const RESPONSE_INCORRECT_LUN = 12;
// of task management
export const FUNCTION_COMPLETE = 0;
export const FUNCTION_SUCCEEDED = 10;
export const FUNCTION_REJECTED = 11;

// Task management functions (§5.6.6.2)
export const TMF_ABORT_TASK = 0;
export const TMF_ABORT_TASK_SET = 1;
export const TMF_CLEAR_ACA = 2;
export const TMF_CLEAR_TASK_SET = 3;
export const TMF_I_T_NEXUS_RESET = 4;
export const TMF_LOGICAL_UNIT_RESET = 5;
export const TMF_QUERY_TASK = 6;
export const TMF_QUERY_TASK_SET = 7;

const CONTROL_TMF = 0;
const CONTROL_AN_QUERY = 1;
const CONTROL_AN_SUBSCRIBE = 2;

const LUN_BYTES = 8;
const HEADER_BYTES = LUN_BYTES + 8 + 3;
const RESPONSE_BYTES = 12;
const TMF_BYTES = 24;
const AN_BYTES = 20;

/** Whose: a drive's number, or why it is nobody's. */
export type Address = { target: number } | { response: number };

/** A LUN field: one, the target, the number of the unit in two bytes (§5.6.6.1). Every drive has one unit, number 0. */
export function addressOf(lun: Uint8Array): Address {
  if (lun[0] !== 1) return { response: RESPONSE_BAD_TARGET };
  if ((lun[2]! & 0x3f) !== 0 || lun[3] !== 0) return { response: RESPONSE_INCORRECT_LUN };
  return { target: lun[1]! };
}

export function lunOf(target: number): Uint8Array {
  return Uint8Array.of(1, target, 0x40, 0, 0, 0, 0, 0);
}

export interface ScsiRequest {
  readonly address: Address;
  /** The driver's name for it: a number as text. */
  readonly id: string;
  /** At least 16 bytes. */
  readonly cdb: Uint8Array;
  readonly out: Buffers;
  readonly in: Buffers;
}

const idOf = (bytes: Uint8Array, at: number): string => bytes.subarray(at, at + 8).join();

/** Throws QueueError for a chain without a header or without room for the response. */
export function readRequest(queue: number, { readable, writable }: Chain, cdbSize: number, senseSize: number): ScsiRequest {
  const header = new Uint8Array(HEADER_BYTES + cdbSize);
  if (readable.read(0, header) < header.length) throw new QueueError(queue, 'a request has no header');
  if (writable.bytes < RESPONSE_BYTES + senseSize) throw new QueueError(queue, 'a request has no room for its response');
  const cdb = new Uint8Array(Math.max(16, cdbSize));
  cdb.set(header.subarray(HEADER_BYTES));
  return {
    address: addressOf(header), id: idOf(header, LUN_BYTES), cdb,
    out: readable.slice(header.length), in: writable.slice(RESPONSE_BYTES + senseSize),
  };
}

export interface Response {
  readonly response: number;
  readonly status?: number;
  readonly sense?: Uint8Array;
  /** Bytes that were not moved of those that could have been. */
  readonly residual?: number;
}

/** Writes struct virtio_scsi_req_cmd's second part, all of it. */
export function writeResponse({ writable }: Chain, senseSize: number, { response, status = 0, sense, residual = 0 }: Response): void {
  const bytes = new Uint8Array(RESPONSE_BYTES + senseSize);
  const view = new DataView(bytes.buffer);
  const told = sense?.subarray(0, senseSize) ?? new Uint8Array(0);
  view.setUint32(0, told.length, true);
  view.setUint32(4, residual, true);
  bytes[10] = status;
  bytes[11] = response;
  bytes.set(told, RESPONSE_BYTES);
  writable.write(0, bytes);
}

export type ControlRequest =
  | { kind: 'tmf'; subtype: number; address: Address; id: string }
  /** Asynchronous notifications: there are none. */
  | { kind: 'notification' }
  | { kind: 'unknown' };

/** Throws QueueError for a chain that is too short. */
export function readControl({ readable, writable }: Chain): ControlRequest {
  const bytes = new Uint8Array(TMF_BYTES);
  const length = readable.read(0, bytes);
  const view = new DataView(bytes.buffer);
  const type = view.getUint32(0, true);
  const need = type === CONTROL_TMF ? TMF_BYTES : AN_BYTES;
  if (length < 4 || (type <= CONTROL_AN_SUBSCRIBE && length < need) || writable.bytes < 1) throw new QueueError(CONTROL_QUEUE, 'a request is too short');
  if (type === CONTROL_TMF) return { kind: 'tmf', subtype: view.getUint32(4, true), address: addressOf(bytes.subarray(8, 16)), id: idOf(bytes, 16) };
  return { kind: type === CONTROL_AN_QUERY || type === CONTROL_AN_SUBSCRIBE ? 'notification' : 'unknown' };
}

/** @returns bytes written */
export function writeControl({ writable }: Chain, request: ControlRequest, response: number): number {
  if (request.kind !== 'notification') return writable.write(0, Uint8Array.of(response));
  return writable.write(0, Uint8Array.of(0, 0, 0, 0, response));
}
