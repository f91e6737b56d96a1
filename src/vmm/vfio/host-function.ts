// One device of the host through its VFIO descriptor: what the virtual device needs of the real one, and nothing that decides.
// Regions are read and written one access at a time, with the width asked for (a device may answer each access with a side effect).
import { allOnes, type Width } from '../bus/handler.ts';
import { errno, errnoName, ioctlStruct, ioctlValue, readAt, writeAt } from '../kvm/libc.ts';
import * as V from './ioctls.ts';
import { irqSet, type IrqInfo, type RegionInfo } from './layouts.ts';

/** The real device; a fake in tests. */
export interface HostFunction {
  /** `width` bytes of region `index`; all ones when the device does not answer. */
  read(region: number, offset: number, width: Width): number;
  write(region: number, offset: number, width: Width, value: number): void;
  /** VFIO_DEVICE_SET_IRQS. @returns 0, how many vectors there could be instead, or a negative error number */
  setIrqs(options: { index: number; action: number; start: number; fds: readonly number[] | null; count?: number }): number;
  /** It can be reset alone (FLR, power state, or its bus where nothing else is); if not, HostDevices.resetTogether is what there is. */
  readonly resettable: boolean;
  /** Resets the function alone. False when that fails. */
  reset(): boolean;
  readonly regions: readonly RegionInfo[];
  readonly irqs: readonly IrqInfo[];
}

/** Crosses to a Worker: the descriptor is a number of the whole process. */
export interface HostFunctionDescription {
  readonly fd: number;
  readonly regions: readonly RegionInfo[];
  readonly irqs: readonly IrqInfo[];
  readonly resettable: boolean;
}

export class VfioFunction implements HostFunction {
  readonly regions: readonly RegionInfo[];
  readonly irqs: readonly IrqInfo[];
  readonly resettable: boolean;
  readonly #fd: number;
  readonly #bytes = new Uint8Array(4);
  readonly #view = new DataView(this.#bytes.buffer);

  constructor(description: HostFunctionDescription) {
    this.#fd = description.fd;
    this.regions = description.regions;
    this.irqs = description.irqs;
    this.resettable = description.resettable;
  }

  read(region: number, offset: number, width: Width): number {
    const info = this.regions[region];
    if (info === undefined || offset + width > info.size || readAt(this.#fd, this.#bytes, width, info.offset + offset) !== width) return allOnes(width);
    return width === 4 ? this.#view.getUint32(0, true) : width === 2 ? this.#view.getUint16(0, true) : this.#bytes[0]!;
  }

  write(region: number, offset: number, width: Width, value: number): void {
    const info = this.regions[region];
    if (info === undefined || offset + width > info.size) return;
    this.#view.setUint32(0, value, true);
    writeAt(this.#fd, this.#bytes, width, info.offset + offset);
  }

  setIrqs(options: { index: number; action: number; start: number; fds: readonly number[] | null; count?: number }): number {
    const result = ioctlStruct(this.#fd, V.VFIO_DEVICE_SET_IRQS, irqSet(options));
    return result < 0 ? -errno() : result;
  }

  reset(): boolean {
    return ioctlValue(this.#fd, V.VFIO_DEVICE_RESET, 0) === 0;
  }
}

/** "EINVAL" for what setIrqs gave. */
export function irqError(result: number): string {
  return errnoName(-result);
}
