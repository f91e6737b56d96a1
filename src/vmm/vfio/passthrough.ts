// A device of the host as a PCI device of the machine. Its registers are the device's own: mapped into the guest where whole pages allow it
// (KVM's alone: no code here reads them), else forwarded access by access. What the machine must know of is virtual: config-layout.ts says
// which bits, msix-table.ts and interrupts.ts have the rest.
//
// Order around decode and power (PCI 3.0 §6.2.2; Linux drivers/vfio/pci: a mapping of a device that does not decode faults):
//   off: KVM's slots go, then the guest's write reaches the device      on: the device decodes, then the slots come
// The first half of that is the commit's (topology.ts); activate() sees to the second.
import type { Handler, Width } from '../bus/handler.ts';
import { allOnes } from '../bus/handler.ts';
import type { Platform } from '../devices/device.ts';
import { COMMAND_IO, COMMAND_MEMORY } from '../pci/bar.ts';
import { type Backing, type BarDescription, type PciDevice, ROM_BAR } from '../pci/device.ts';
import { COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, PCI_COMMAND, PCI_VENDOR_ID, PciFunction } from '../pci/function.ts';
import { swizzle } from '../pci/intx.ts';
import type { Mutex } from '../sync/mutex.ts';
import * as C from './config-layout.ts';
import type { HostFunction } from './host-function.ts';
import { type InterruptWiring, Interrupts, type Message, MODE_INTX, MODE_MSI, MODE_MSIX, MODE_NONE, type Mode } from './interrupts.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX as CONFIG } from './ioctls.ts';
import { MsixTable } from './msix-table.ts';
import type { Extent } from './pieces.ts';


/** What all threads know of the device; crosses to a Worker. */
export interface PassthroughDescription {
  /** "0000:03:00.0" on the host. */
  readonly address: string;
  readonly slot: number;
  /** 256 or 4096 bytes, as recorded before the start. */
  readonly config: Uint8Array;
  /** By BAR: where its mapped pieces are. */
  readonly mapped: Readonly<Record<number, Backing | undefined>>;
  readonly rom?: { readonly bytes: SharedArrayBuffer; readonly size: number; readonly backing: Backing };
}

export interface PassthroughParts {
  readonly host: HostFunction;
  readonly wiring: InterruptWiring;
  readonly newEventfd?: () => number;
}

/** A range of a BAR that is not simply forwarded. */
interface Special extends Extent {
  readonly handler: Handler;
}

export class Passthrough implements PciDevice {
  readonly label: string;
  /** On the host: "0000:03:00.0". */
  readonly address: string;
  readonly mutex: Mutex;
  readonly ranges = [];
  readonly config: PciFunction;
  readonly layout: C.ConfigLayout;
  readonly interrupts: Interrupts;
  readonly #host: HostFunction;
  readonly #platform: Platform;
  readonly #table: MsixTable | undefined;

  constructor(platform: Platform, description: PassthroughDescription, { host, wiring, newEventfd }: PassthroughParts) {
    const { address, slot, mapped, rom } = description;
    this.label = `00:${slot.toString(16).padStart(2, '0')}.0 host ${address}`;
    this.address = address;
    this.mutex = platform.arena.mutex(`${this.label}.lock`);
    this.#host = host;
    this.#platform = platform;
    const layout = (this.layout = C.layOutConfig(description.config, host.regions.slice(0, 6).map(({ size }) => size)));
    const { msix, pin } = layout;
    const label = this.label;
    this.interrupts = new Interrupts({
      arena: platform.arena, label, host, wiring, newEventfd, pirq: pin === 0 ? undefined : swizzle(slot, pin), log: (text) => platform.log(label, text),
    });
    if (msix !== undefined) {
      this.#table = new MsixTable({
        arena: platform.arena, label, vectors: msix.vectors,
        changed: (vector) => this.interrupts.mode === MODE_MSIX && this.interrupts.update(vector, this.#msixMessage(vector)),
        pending: (vector) => this.interrupts.pending(vector),
        devicePending: (dword) => {
          const bits = host.read(msix.pba.bar, msix.pba.offset + 4 * dword, 4);
          return bits === 0xffff_ffff ? 0 : bits; // a device that does not answer
        },
      });
    }
    const bars: BarDescription[] = layout.bars.map((bar) => ({ ...bar, handler: this.#forward(bar.index), backing: mapped[bar.index] }));
    if (rom !== undefined) bars.push({ index: ROM_BAR, kind: 'rom', size: rom.size, handler: shadow(new Uint8Array(rom.bytes, 0, rom.size)), backing: rom.backing });
    this.config = new PciFunction(platform.arena, {
      label, vendorId: layout.vendorId, deviceId: layout.deviceId, classCode: layout.classCode, revision: layout.revision,
      subsystemVendorId: layout.subsystemVendorId, subsystemId: layout.subsystemId, interruptPin: pin === 0 ? undefined : pin,
      bars, powerRegister: layout.power, extra: (image) => layout.install(image),
    });
  }

  // BARs.

  /** Forwards with the guest's own width; the MSI-X table and its pending bits are answered here. */
  #forward(bar: number): Handler {
    const host = this.#host;
    const specials = this.#specials(bar);
    const at = (offset: number): Special | undefined => specials.find((each) => offset >= each.offset && offset < each.offset + each.size);
    return {
      read: (offset, width) => {
        const special = at(offset);
        return special === undefined ? host.read(bar, offset, width) : special.handler.read(offset - special.offset, width);
      },
      write: (offset, width, value) => {
        const special = at(offset);
        if (special === undefined) host.write(bar, offset, width, value);
        else special.handler.write(offset - special.offset, width, value);
      },
    };
  }

  #specials(bar: number): Special[] {
    const { msix } = this.layout;
    const table = this.#table;
    const specials: Special[] = [];
    if (msix === undefined || table === undefined) return specials;
    if (msix.table.bar === bar) specials.push({ offset: msix.table.offset, size: table.bytes, handler: table.table });
    if (msix.pba.bar === bar) specials.push({ offset: msix.pba.offset, size: table.pbaBytes, handler: table.pba });
    return specials;
  }

  // Configuration. The topology lock is held in all of these.

  configRead(offset: number, width: Width): number {
    const { ours, msi } = this.layout;
    const kept = this.config.read(offset, width);
    let mask = 0;
    for (let byte = width - 1; byte >= 0; byte--) mask = mask * 256 + ours[offset + byte]!;
    if (msi?.pending !== undefined && (offset & ~3) === msi.pending) return this.#msiPending(offset & 3, width);
    if (mask === allOnes(width)) return kept;
    const device = this.#host.read(CONFIG, offset, width);
    return ((kept & mask) | (device & ~mask)) >>> 0;
  }

  configChanged(register: number): void {
    const { msi, msix } = this.layout;
    if (msix !== undefined && register === msix.offset) this.#syncInterrupts();
    else if (msi !== undefined && register >= msi.offset && register < msi.offset + msi.bytes) this.#syncInterrupts();
  }

  /** Each of the guest's writes reaches the device once, with its own width, after the machine has acted on it. */
  configWritten(offset: number, width: Width, value: number): void {
    for (let byte = 0; byte < width; byte++) {
      if (this.layout.through[offset + byte] === 0) continue;
      this.#host.write(CONFIG, offset, width, value);
      return;
    }
  }

  /** The device must decode, in D0, before KVM maps it. */
  activate(bar: number): void {
    const { power } = this.layout;
    if (power !== undefined && (this.#host.read(CONFIG, power, 2) & C.POWER_STATE) !== 0) {
      // PME status is cleared by a written one: leave it.
      this.#host.write(CONFIG, power, 2, this.#host.read(CONFIG, power, 2) & ~(C.POWER_STATE | C.POWER_PME_STATUS));
    }
    const wanted = this.config.bars.find(({ index }) => index === bar)!.kind === 'io' ? COMMAND_IO : COMMAND_MEMORY;
    const command = this.#host.read(CONFIG, PCI_COMMAND, 2);
    if ((command & wanted) === 0) this.#host.write(CONFIG, PCI_COMMAND, 2, command | wanted);
  }

  // Interrupts.

  #control(at: number): number {
    return this.config.read(at, 2);
  }

  /** What the guest has switched on. MSI-X goes before MSI, both before the pin. */
  #wantedMode(): Mode {
    const { msi, msix } = this.layout;
    if (msix !== undefined && (this.#control(msix.offset + C.MSIX_CONTROL) & C.MSIX_ENABLE) !== 0) return MODE_MSIX;
    if (msi !== undefined && (this.#control(msi.offset + C.MSI_CONTROL) & C.MSI_ENABLE) !== 0) return MODE_MSI;
    return this.layout.pin === 0 ? MODE_NONE : MODE_INTX;
  }

  #syncInterrupts(): void {
    const { interrupts, layout } = this;
    const mode = this.#wantedMode();
    const vectors = mode === MODE_MSIX ? layout.msix!.vectors : mode === MODE_MSI ? this.#msiGranted() : 0;
    if (mode === interrupts.mode && vectors === interrupts.wanted) {
      for (let vector = 0; vector < vectors; vector++) interrupts.update(vector, mode === MODE_MSIX ? this.#msixMessage(vector) : this.#msiMessage(vector));
      return;
    }
    if (mode === MODE_INTX && interrupts.mode === MODE_INTX) return;
    interrupts.disable();
    if (mode === MODE_MSIX) interrupts.enable(mode, vectors, (vector) => this.#msixMessage(vector));
    else if (mode === MODE_MSI) interrupts.enable(mode, vectors, (vector) => this.#msiMessage(vector));
    else interrupts.enablePin();
  }

  #msixMessage(vector: number): Message | undefined {
    const masked = (this.#control(this.layout.msix!.offset + C.MSIX_CONTROL) & C.MSIX_MASK_ALL) !== 0;
    return masked ? undefined : this.#table!.message(vector);
  }

  #msiGranted(): number {
    const { offset, vectors } = this.layout.msi!;
    return Math.min(vectors, 2 ** ((this.#control(offset + C.MSI_CONTROL) & C.MSI_GRANTED) >> C.MSI_GRANTED_SHIFT));
  }

  #msiMessage(vector: number): Message | undefined {
    const { offset, address64, data, mask } = this.layout.msi!;
    if (mask !== undefined && (this.config.dword(mask) & (1 << vector)) !== 0) return undefined;
    const high = address64 ? this.config.dword(offset + 8) : 0;
    // The device changes the low bits of the data to the vector's number.
    const base = this.config.read(data, 2) & ~(this.#msiGranted() - 1);
    return { address: high * 2 ** 32 + this.config.dword(offset + 4), data: base | vector };
  }

  #msiPending(byte: number, width: Width): number {
    let bits = 0;
    if (this.interrupts.mode === MODE_MSI) for (let vector = 0; vector < this.interrupts.wanted; vector++) if (this.interrupts.pending(vector)) bits |= 1 << vector;
    const value = bits >>> (8 * byte);
    return width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff;
  }

  // Reset.

  /**
   * Power-on, with no vCPU running: silent, off the bus, reset, and its pin wired again. The machine's configuration goes back by itself
   * (PciHost.reset), and with it the slots; until then nobody runs who could touch them. What cannot be reset alone was reset with its neighbours
   * before, if that can be (HostDevices.resetTogether).
   */
  reset(): void {
    this.quiesce();
    if (this.#host.resettable && !this.#host.reset()) this.#platform.log(this.label, 'its reset failed; it begins in the state in which it was');
    if (this.#host.read(CONFIG, PCI_VENDOR_ID, 2) === 0xffff) this.#platform.log(this.label, 'it does not answer after its reset; only a restart of the computer may bring it back');
    this.#table?.reset();
    this.interrupts.enablePin();
  }

  /** The end: quiet, and its eventfds closed. No other thread has it any more. VFIO resets it once more when its descriptor goes. */
  dispose(): void {
    this.quiesce();
    this.interrupts.close();
  }

  /** No interrupt, no DMA, no decoding; awake. With no vCPU running, or unseen by guests. */
  quiesce(): void {
    const { power } = this.layout;
    this.interrupts.disable();
    if (power !== undefined) this.#host.write(CONFIG, power, 2, this.#host.read(CONFIG, power, 2) & ~(C.POWER_STATE | C.POWER_PME_STATUS));
    const command = this.#host.read(CONFIG, PCI_COMMAND, 2);
    this.#host.write(CONFIG, PCI_COMMAND, 2, command & ~(COMMAND_IO | COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTX_DISABLE));
  }
}

/** A ROM's copy: read-only memory. */
function shadow(bytes: Uint8Array): Handler {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    read: (offset, width) => (offset + width > bytes.length ? allOnes(width) : width === 4 ? view.getUint32(offset, true) : width === 2 ? view.getUint16(offset, true) : bytes[offset]!),
    write: () => {},
  };
}
