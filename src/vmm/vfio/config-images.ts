// Configuration spaces for tests: one written by hand with everything in it that is treated specially, and those of QEMU's devices.
import { gunzipSync } from 'node:zlib';

/** An image with capabilities placed and linked by hand. */
export class ImageBuilder {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #link = 0x34;
  #extended = 0;

  constructor(size: 256 | 4096) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  word(offset: number, value: number): this {
    this.#view.setUint16(offset, value, true);
    return this;
  }

  dword(offset: number, value: number): this {
    this.#view.setUint32(offset, value, true);
    return this;
  }

  /** The next capability of the list. */
  capability(id: number, offset: number): this {
    this.bytes[this.#link] = offset;
    this.bytes[offset] = id;
    this.#link = offset + 1;
    return this.word(0x06, this.#view.getUint16(0x06, true) | 0x10);
  }

  /** The next extended one; the first lies at 0x100. */
  extended(id: number, version: number, offset: number): this {
    if (this.#extended !== 0) this.dword(this.#extended, (this.#view.getUint32(this.#extended, true) | (offset << 20)) >>> 0);
    this.#extended = offset;
    return this.dword(offset, id | (version << 16));
  }
}

export const PM = 0x40;
export const MSI = 0x50;
export const VENDOR = 0x70;
export const EXPRESS = 0x80;
export const MSIX = 0xc0;
export const SLOT_ID = 0xd0;
export const AER = 0x100;
export const SRIOV = 0x140;
export const SERIAL = 0x180;
export const ARI = 0x1a0;

/** A network adapter: 64-bit BAR 0 of 64 KiB with the MSI-X table at 0x2000, ports in BAR 2, 4 KiB in BAR 3, INTB. */
export function adapterImage(): Uint8Array {
  return new ImageBuilder(4096)
    .dword(0x00, 0x10d3_8086).dword(0x08, 0x0200_0003).dword(0x0c, 0x0080_0000)
    .dword(0x10, 0x0000_000c).dword(0x18, 0x0000_0001).dword(0x1c, 0).dword(0x2c, 0x1234_1af4).dword(0x3c, 0x0502_02ff)
    .capability(0x01, PM).word(PM + 2, 0xfe23).word(PM + 4, 0x0008)
    .capability(0x09, VENDOR).word(VENDOR + 2, 0x0010).dword(VENDOR + 4, 0xcafe_f00d)
    .capability(0x05, MSI).word(MSI + 2, 0x0184 | 0x1)
    .capability(0x04, SLOT_ID).word(SLOT_ID + 2, 0x1234)
    .capability(0x10, EXPRESS).word(EXPRESS + 2, 0x0102).dword(EXPRESS + 4, 0x1000_8001).word(EXPRESS + 8, 0x2810).dword(EXPRESS + 0x0c, 0x0003_f411).dword(EXPRESS + 0x10, 0x1011_0000).dword(EXPRESS + 0x24, 0x1f).dword(EXPRESS + 0x30, 0x3)
    .capability(0x11, MSIX).word(MSIX + 2, 0x8000 | 9).dword(MSIX + 4, 0x2000).dword(MSIX + 8, 0x3000)
    .extended(0x0001, 1, AER).dword(AER + 4, 0x0010_0000)
    .extended(0x0010, 1, SRIOV).dword(SRIOV + 4, 0x1234_5678)
    .extended(0x0003, 1, SERIAL).dword(SERIAL + 4, 0x89ab_cdef)
    .extended(0x000e, 1, ARI)
    .bytes;
}

export const ADAPTER_BARS: readonly number[] = [0x10000, 0, 32, 4096];

/** Recorded from devices of QEMU 7.2 before any driver: configuration space (gzip, base64) and sizes of BARs. */
export const RECORDED: Record<string, { readonly sizes: readonly number[]; readonly config: string }> = {
  e1000e: { sizes: [131072, 131072, 32, 16384, 0, 0], config: 'H4sIAAAAAAACA2truCzAwABEDAxMDEiAkQETtDVA6BP4FFEZCDKwMDADaWYF/OoYLyiBadYHDSjiAgsmMjBAhQRZICai+pNJBMY2UHCDMB4wMCwg0n3MQBPCTIT+/2cICWIYBaNgFIyCUTAKRsEoGAWjYBSMglEwCgYpAABSVGIBABAAAA==' },
  'e1000e-port': { sizes: [131072, 131072, 32, 16384, 0, 0], config: 'H4sIAAAAAAACA2truCzAwABEDAxMDEiAkQETtDVA6BP4FFEZCDKwMDADaWYF/OoYLyiBadYHDSjiAguAjoQKCbJATET1J5MIjG2g4AZhPGBgWECk+5iBJkSYCP3/zxASxDAKRsEoGAWjYBSMglEwCkbBKBgFo2AUDFIAAMeHJyAAEAAA' },
  nvme: { sizes: [16384, 0, 0, 0, 0, 0], config: 'H4sIAAAAAAACAzOTFmBgYBBgYGLiYAQyGFgYcIMvUgyCINoBJgDUIdgA5CkA2QbY9TAyMDNw4DFTIGESA0MDA8gRDIJgywWxqDJgoBUAAKkhIU4AAQAA' },
  edu: { sizes: [1048576, 0, 0, 0, 0, 0], config: 'H4sIAAAAAAACA+3IuxEAEBRE0RXIPaE6FKA05SpA7hOIxcY9N9iZzbGZFFZDNz3J9pZzOMmr6mUDAAAAAIAPTFyWpuYAEAAA' },
  xhci: { sizes: [16384, 0, 0, 0, 0, 0], config: 'H4sIAAAAAAACAzOT5mVgYBBgYDRg5gEyGFgYcIMvUgyCIHoCTICRgSAwYCANCC7gh2iygPAFGCYxMDRA5cCOE6SCLQgAAIHAMcEAAQAA' },
  bochs: { sizes: [16777216, 0, 4096, 0, 0, 0], config: 'H4sIAAAAAAACAzMREhRkYBBgYGJoYGYAAg4G3OCLFIMgiG5goB4QYJgEN1CQBUxiUWXAQCsAAHy5gHsAAQAA' },
  virtio: { sizes: [0, 4096, 0, 0, 16384, 0], config: 'H4sIAAAAAAACA+3NsQ2AIBCF4YdgIonFmVBROYIj6AaO4AgO4RAOaq+AmBhja+X7Gu4n4dj8IIBAAQVe1Ld582jiuV4X4ZGFKHN12GR70SbPqUcxqdvckytSd2fH2c6ufP7bLDquh6rwqZ2IiIiIiIjoBw7A0x6BABAAAA==' },
  ahci: { sizes: [0, 0, 0, 0, 32, 4096], config: 'H4sIAAAAAAACA2trUNJkYBBgYGJkY2TAApAFv0gxCILoBmySZALWFQ0ofAcc6oSAbvRgoD74PwpGwSgYBaNgFIyCUTAKRsEoGAWjYBSMAAAAO0hmtwAQAAA=' },
};

export function recorded(name: string): { sizes: readonly number[]; config: Uint8Array } {
  const { sizes, config } = RECORDED[name]!;
  return { sizes, config: new Uint8Array(gunzipSync(Buffer.from(config, 'base64'))) };
}
