// Resource descriptors for _CRS and _PRS (ACPI 6.5 §6.4): what a device takes, and what a bridge passes on.
import { buffer, concat, type Aml } from './aml.ts';

export type Resource = Uint8Array;

function bytes(length: number, fill: (data: DataView) => void): Resource {
  const data = new DataView(new ArrayBuffer(length));
  fill(data);
  return new Uint8Array(data.buffer);
}

/** I/O port descriptor: exactly these ports, all 16 address bits decoded. */
export function ioPorts(start: number, count: number): Resource {
  return bytes(8, (d) => {
    d.setUint8(0, 0x47);
    d.setUint8(1, 1);
    d.setUint16(2, start, true);
    d.setUint16(4, start, true);
    d.setUint8(6, 1);
    d.setUint8(7, count);
  });
}

/** ISA interrupt: edge, active high, exclusive. */
export function isaIrq(irq: number): Resource {
  return bytes(3, (d) => {
    d.setUint8(0, 0x22);
    d.setUint16(1, 1 << irq, true);
  });
}

/** Offset of the first interrupt in the extended interrupt descriptor. */
export const INTERRUPT_OFFSET = 5;
/** Extended interrupt: level, active low, shared; a choice when there are several. */
export function pciInterrupts(irqs: readonly number[]): Resource {
  return bytes(INTERRUPT_OFFSET + irqs.length * 4, (d) => {
    d.setUint8(0, 0x89);
    d.setUint16(1, 2 + irqs.length * 4, true);
    d.setUint8(3, 0x0d); // consumer, level, active low, shared
    d.setUint8(4, irqs.length);
    irqs.forEach((irq, i) => d.setUint32(INTERRUPT_OFFSET + i * 4, irq, true));
  });
}

const TYPE_MEMORY = 0;
const TYPE_IO = 1;
const TYPE_BUS = 2;
/** Producer; positive decode; minimum and maximum fixed. */
const PRODUCER_FIXED = 0x0c;
const CONSUMER_FIXED = 0x0d;

/** Address space descriptor over [start, end). `width` of its numbers: 2, 4 or 8 bytes. */
function addressSpace(width: 2 | 4 | 8, type: number, general: number, specific: number, start: number, end: number): Resource {
  const tag = { 2: 0x88, 4: 0x87, 8: 0x8a }[width];
  return bytes(6 + 5 * width, (d) => {
    const put = (index: number, value: number): void => {
      const at = 6 + index * width;
      if (width === 2) d.setUint16(at, value, true);
      else if (width === 4) d.setUint32(at, value, true);
      else d.setBigUint64(at, BigInt(value), true);
    };
    d.setUint8(0, tag);
    d.setUint16(1, 3 + 5 * width, true);
    d.setUint8(3, type);
    d.setUint8(4, general);
    d.setUint8(5, specific);
    put(1, start);
    put(2, end - 1);
    put(4, end - start);
  });
}

/** Buses [first, last] behind a bridge. */
export const busNumbers = (first: number, last: number): Resource => addressSpace(2, TYPE_BUS, PRODUCER_FIXED, 0, first, last + 1);
/** I/O ports [start, end) that a bridge passes on, ISA and non-ISA ranges alike. */
export const ioWindow = (start: number, end: number): Resource => addressSpace(2, TYPE_IO, PRODUCER_FIXED, 3, start, end);
/** Memory [start, end) that a bridge passes on, read/write, not cacheable; below 4 GiB or anywhere. */
export const memoryWindow = (start: number, end: number): Resource => addressSpace(end <= 2 ** 32 ? 4 : 8, TYPE_MEMORY, PRODUCER_FIXED, 1, start, end);
/** Memory [start, end) that a device takes itself. */
export const memory = (start: number, end: number): Resource => addressSpace(end <= 2 ** 32 ? 4 : 8, TYPE_MEMORY, CONSUMER_FIXED, 1, start, end);

/** ResourceTemplate: the descriptors and the end tag, whose checksum 0 means "not checked". */
export function resourceTemplate(...resources: Resource[]): Aml {
  return buffer(concat([...resources, Uint8Array.of(0x79, 0)]));
}
