// Host devices for a machine: a lease of them, where one is needed and the privileged helper is installed.
//
// One that starts: its process has the lease's descriptor and so holds it for as long as it lives; when it is gone, however it went, the host
// has its devices back. Its limit of locked memory has to be raised before it pins the guest's memory, and it needs to be there for that: it
// begins as a shell that waits for a line and then becomes the machine.
//
// One that runs: no descriptor can be handed to it, and none is needed. Once the machine has the device open, the lease's end is asked for at
// once; the helper, which takes nothing back while a group is open, is what waits for the device's removal or the machine's end.
//
// Without the helper nothing is done here, and the machine's process says what it lacks.
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import * as v from 'valibot';
import type { MachineConfig } from '../../shared/machine-config.ts';
import { deviceConfig, hostDevicesOf } from '../../shared/machine-config.ts';
import type { MachineState } from '../../shared/protocol/machine.ts';
import { groupOf, leaseDevices } from '../lease/groups.ts';
import { grantedFor } from '../lease/lasting.ts';
import type { Lease } from '../lease/lease.ts';
import { lockedBytes } from '../lease/pinned.ts';
import type { Starter } from '../lease/start.ts';
import { canAsk } from '../lease/start.ts';
import type { MachineConnection } from '../machine-connection.ts';

/** Waits at descriptor 3; descriptor 4, the lease, stays open in what it becomes. */
const WAIT = 'read -r go <&3 && exec 3<&- && exec "$@"';
export const LEASE_DESCRIPTOR = 4;

export interface LeaseHostFiles {
  sys: string;
  dev: string;
  /** Text of /proc/PID/limits: of the process that will pin the memory, or of the one that starts it. */
  limits: string;
  /** Whether a node may be read and written; default as the kernel says. */
  mayUse?: (path: string) => boolean;
  /** Default: /var/lib and /proc. */
  lib?: string;
  proc?: string;
}

/** How a lease is taken; for tests. */
export interface HostLeaseOptions {
  starter?: Starter;
  files?: LeaseHostFiles;
}

/** What of a machine's configuration matters here. */
type Needs = Pick<MachineConfig, 'id' | 'memory' | 'devices'>;

const realFiles = (pid: number | 'self'): LeaseHostFiles => ({ sys: '/sys', dev: '/dev', limits: readFileSync(`/proc/${pid}/limits`, 'latin1') });

function hostDevices(config: Needs): string[] {
  return hostDevicesOf(config).map(({ address }) => address);
}

/** Whether something has to be changed on the host before the machine can have its devices. */
export function needsLease(config: Needs, { sys, dev, limits, mayUse }: LeaseHostFiles): boolean {
  const addresses = hostDevices(config);
  if (addresses.length === 0) return false;
  const soft = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1] ?? 'unlimited';
  if (soft !== 'unlimited' && Number(soft) < lockedBytes(config) && process.geteuid?.() !== 0) return true;
  return addresses.some((address) => {
    try {
      const node = join(dev, 'vfio', String(groupOf(address, sys)));
      accessSync(node, constants.R_OK | constants.W_OK);
      if (mayUse?.(node) === false) return true;
      accessSync(join(sys, 'bus/pci/drivers/vfio-pci', address));
      return false;
    } catch {
      return true;
    }
  });
}

/**
 * The lease for a machine, or null when it needs none or nobody here can take one. The user may be asked for permission, unless it was
 * granted to this machine.
 * Throws what the helper refuses, codes "lease-…", with the host as it was.
 */
export async function leaseFor(config: Needs, options: HostLeaseOptions = {}, pid: number | 'self' = 'self'): Promise<Lease | null> {
  if (hostDevices(config).length === 0) return null;
  const files = options.files ?? realFiles(pid);
  if (!needsLease(config, files) || (options.starter === undefined && !canAsk())) return null;
  const granted = grantedFor(config.id, hostDevices(config), lockedBytes(config), files) ? config.id : undefined;
  return leaseDevices(hostDevices(config), { starter: options.starter, granted, attempted: 'give devices to the machine', onTerminal: process.stdin.isTTY === true }, files.sys);
}

/** Starts a process that holds the lease; it waits until `go` before it becomes the command. @param more descriptors from 5 on */
export function spawnHolding(lease: Lease, [command, ...words]: readonly string[], log: number | 'ignore', options: SpawnOptions, more: readonly 'pipe'[] = []): { child: ChildProcess; go: () => void } {
  const child = spawn('/bin/sh', ['-c', WAIT, 'sh', command, ...words], { ...options, stdio: ['ignore', log, log, 'pipe', lease.descriptor, ...more] });
  const gate = child.stdio[3] as Writable;
  gate.on('error', () => {
    // It is gone: its exit says so.
  });
  return { child, go: () => gate.end('\n') };
}

/**
 * Adds a device to a running machine, one of the host with a lease: the host has it back when the guest or the user gives it back, or the
 * machine ends. Rejects with what the machine or the helper refuses, with the host as it was.
 * @returns the device's slot, and whether the guest was told
 */
export async function addDeviceTo({ client }: Pick<MachineConnection, 'client'>, state: Pick<MachineState, 'id' | 'pid' | 'memory' | 'backend'>, device: v.InferInput<typeof deviceConfig>, options: HostLeaseOptions = {}): Promise<{ slot: number; told: boolean }> {
  const needs = { id: state.id, memory: state.memory, devices: [v.parse(deviceConfig, device)] };
  // One in the lab is given the lab's devices by its relay, when it starts (lab-lease.ts).
  const lease = state.backend === 'kvm' ? await leaseFor(needs, options, state.pid) : null;
  let added = false;
  try {
    await lease?.memlock(state.pid, lockedBytes(needs));
    const result = await client.call('addDevice', { device });
    added = true;
    return result;
  } finally {
    // What the machine has open stays as it is until it is closed.
    lease?.release();
    if (!added) await lease?.ended;
  }
}
