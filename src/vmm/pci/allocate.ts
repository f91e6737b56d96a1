// The firmware's work for direct boot: every BAR gets an address, decode goes on, interrupt lines are set. Largest first, each aligned to its
// size, so that nothing is lost to gaps but what the sizes themselves force. Prefetchable 64-bit BARs of more than 256 MiB, and any 64-bit
// BAR that does not fit below, go above 4 GiB. ROMs get an address and stay disabled, as firmware leaves them.
import { VitrineError } from '../../shared/errors.ts';
import { PCI_HIGH_SIZE, PCI_IO_END, PCI_IO_START, PCI_MEMORY_END, PCI_MEMORY_START } from '../arch/x86/layout.ts';
import { barRegister, decodeBit } from './bar.ts';
import { PCI_COMMAND, PCI_INTERRUPT_LINE } from './function.ts';
import { swizzle } from './intx.ts';
import type { BarDescription, PciDevice, PciWindows, Span } from './device.ts';
import type { PciHost } from './host.ts';

const MIB = 2 ** 20;
const GIB4 = 2 ** 32;
const HIGH_FROM = 256 * MIB;

/**
 * The windows of a machine, for Topology and so for the allocator and _CRS.
 * @param ramEnd end of the highest RAM, guest-physical
 * @param physicalBits of the guest's CPUs
 */
export function standardWindows(ramEnd: number, physicalBits: number): PciWindows {
  const limit = 2 ** physicalBits;
  const io = { start: PCI_IO_START, end: PCI_IO_END };
  const memory = { start: PCI_MEMORY_START, end: PCI_MEMORY_END };
  for (let size = PCI_HIGH_SIZE; size >= 2 ** 30; size /= 2) {
    const start = Math.ceil(Math.max(ramEnd, GIB4) / size) * size;
    if (start + size <= limit) return { io, memory, high: { start, end: start + size } };
  }
  return { io, memory };
}

interface Wanted {
  readonly device: PciDevice;
  readonly bar: BarDescription;
}

/** Hands out a window from its start. */
class Room {
  readonly span: Span;
  #next: number;

  constructor(span: Span) {
    this.span = span;
    this.#next = span.start;
  }

  take(size: number): number | undefined {
    const start = Math.ceil(this.#next / size) * size;
    if (start + size > this.span.end) return undefined;
    this.#next = start + size;
    return start;
  }
}

/**
 * Where each BAR goes; pure. Throws a VitrineError that names the BAR and the window when one is exhausted.
 * @returns addresses in the order of placing.
 */
export function placeBars(devices: readonly PciDevice[], windows: PciWindows): { device: PciDevice; bar: BarDescription; address: number }[] {
  const io = new Room(windows.io);
  const low = new Room(windows.memory);
  const high = windows.high === undefined ? undefined : new Room(windows.high);
  const wanted = devices.flatMap((device) => device.config.bars.map((bar): Wanted => ({ device, bar })));
  wanted.sort((a, b) => b.bar.size - a.bar.size); // stable: else in slot order
  return wanted.map(({ device, bar }) => {
    const rooms = bar.kind === 'io' ? [io] : bar.kind !== 'memory64' ? [low] : bar.prefetchable === true && bar.size > HIGH_FROM ? [high, low] : [low, high];
    for (const room of rooms) {
      const address = room?.take(bar.size);
      if (address !== undefined) return { device, bar, address };
    }
    throw exhausted(device, bar, rooms);
  });
}

function exhausted(device: PciDevice, bar: BarDescription, rooms: readonly (Room | undefined)[]): VitrineError {
  const unit = bar.kind === 'io' ? 'ports' : 'bytes';
  const size = bar.size % MIB === 0 ? `${bar.size / MIB} MiB` : `${bar.size} ${unit}`;
  const spans = rooms.filter((room) => room !== undefined).map(({ span }) => `0x${span.start.toString(16)} to 0x${(span.end - 1).toString(16)}`);
  return new VitrineError({
    attempted: 'place the PCI devices',
    on: `${device.label}, BAR ${bar.index}`,
    why: `it needs ${size}, and there is no room left in the ${bar.kind === 'io' ? 'I/O' : 'memory'} window (${spans.join('; ')}).`,
    remedy: 'Take a device out of the machine.',
    code: 'pci-window-exhausted',
  });
}

/**
 * Assigns all BARs, through the same writes as a guest's, and enables decode; interrupt lines say the ISA interrupt of each PIRQ. On the control
 * thread, after host.reset(), with no vCPU running: at direct boot and again at every reset of it.
 * @param isa the ISA interrupt of each PIRQ, as the LPC bridge has them
 */
export function assignResources(host: PciHost, isa: readonly number[], windows: PciWindows = host.windows): void {
  const functions = host.functions();
  const placed = placeBars(functions.map(({ device }) => device), windows);
  host.topology.run(() => {
    for (const { slot, number, device } of functions) {
      const place = slot * 8 + number;
      const mine = placed.filter((each) => each.device === device);
      for (const { bar, address } of mine) {
        const register = barRegister(bar.index);
        host.write(place, register, 4, address % GIB4);
        if (bar.kind === 'memory64') host.write(place, register + 4, 4, Math.floor(address / GIB4));
      }
      if (device.config.interruptPin !== 0) host.write(place, PCI_INTERRUPT_LINE, 1, isa[swizzle(slot, device.config.interruptPin)] ?? 0xff);
      const decode = mine.reduce((bits, { bar }) => bits | decodeBit(bar.kind), 0);
      if (decode !== 0) host.write(place, PCI_COMMAND, 2, decode);
      if ((device.config.read(PCI_COMMAND, 2) & decode) !== decode) {
        throw new VitrineError({ attempted: 'place the PCI devices', on: device.label, why: 'its BARs could not be activated; the log has the reason.', remedy: '', code: 'pci-activation' });
      }
    }
  });
}
