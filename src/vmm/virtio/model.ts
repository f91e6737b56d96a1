// What a virtio device is to its driver, beside what it does: the same in every thread (pci.ts asks it), while the work is its backend's (backend.ts).

/** Called with the device's mutex held, in whichever thread the driver's write exited. */
export interface VirtioModel {
  /** Device type (virtio 1.3 §5). */
  readonly type: number;
  /** For labels: "virtio-blk". */
  readonly name: string;
  /** Base class, subclass and programming interface. */
  readonly classCode: number;
  /** The most entries of each queue: powers of two. */
  readonly queues: readonly number[];
  /** Numbers of the features of its type that it offers from the start; its backend may offer others when it begins. */
  readonly features: readonly number[];
  /** The device-specific configuration as after power-on, for its backend to change when it begins. Its length is for ever. */
  readonly config: Uint8Array;
  /**
   * The driver wrote `width` bytes at `offset` of the configuration, all within it: `bytes` may be changed. Nothing is writable unless there is this.
   * @param hidden the device's words that no driver sees
   * @returns true when the backend must look (Backend.configWritten)
   */
  configWrite?(bytes: Uint8Array, offset: number, width: 1 | 2 | 4, value: number, hidden: Int32Array): boolean;
  /** How many words configWrite has to leave word for the backend, which the configuration does not show. */
  readonly hidden?: number;
}
