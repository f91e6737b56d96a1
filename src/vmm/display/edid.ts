// EDID: what the monitor says of itself. One base block of 128 bytes, VESA E-EDID release A, revision 2 (EDID 1.4).
// The guest's driver takes its modes from here: the preferred one first, then the established, standard and detailed timings. Our
// monitor shows any of them; no clock exists, so timings are computed (VESA CVT 1.2 with reduced blanking) only because a detailed timing
// must have them. Left out: extension blocks, colour management (sRGB primaries are stated), audio.

export const EDID_BYTES = 128;

/** Pixels of a picture. */
export interface Mode {
  readonly width: number;
  readonly height: number;
}

const REFRESH_HZ = 60;
/** At 96 dots to an inch, so that no desktop scales. */
const MM_PER_PIXEL = 25.4 / 96;

/** Manufacturer id "VTR": three letters of five bits each (§3.4.1). */
const MANUFACTURER = (('V'.charCodeAt(0) - 64) << 10) | (('T'.charCodeAt(0) - 64) << 5) | ('R'.charCodeAt(0) - 64);
const PRODUCT = 1;
const MADE_IN_YEAR = 2026;
const DIGITAL_8_BITS = 0b1010_0000; // interface not defined
const GAMMA_2_2 = 220 - 100;
/** sRGB, and the first detailed timing is the native one. */
const FEATURES = 0b0000_0110;
/** Chromaticity of the sRGB primaries and D65, as §3.7 packs them. */
const SRGB = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54];
/** 640x480, 800x600 and 1024x768 at 60 Hz (§3.8). */
const ESTABLISHED = [0b0010_0001, 0b0000_1000, 0];

/** §3.9: eight standard timings in the block itself, six more in a descriptor; all of them are VESA DMT modes at 60 Hz. */
const STANDARD: readonly Mode[] = [
  { width: 1280, height: 720 }, { width: 1280, height: 800 }, { width: 1280, height: 1024 }, { width: 1440, height: 900 },
  { width: 1600, height: 900 }, { width: 1600, height: 1200 }, { width: 1680, height: 1050 }, { width: 1920, height: 1080 },
];
const MORE_STANDARD: readonly Mode[] = [{ width: 1920, height: 1200 }, { width: 2048, height: 1152 }, { width: 1280, height: 960 }, { width: 1400, height: 1050 }, { width: 1920, height: 1440 }];
const LARGEST: Mode = { width: 2560, height: 1600 };

const DESCRIPTOR_BYTES = 18;
const TAG_NAME = 0xfc;
const TAG_STANDARD = 0xfa;
const UNUSED_STANDARD = [0x01, 0x01];

/** The two bytes of a standard timing (§3.9): width and, in two bits, the aspect ratio. */
function standardTiming({ width, height }: Mode): number[] {
  const aspects: [number, number][] = [[16, 10], [4, 3], [5, 4], [16, 9]];
  const aspect = aspects.findIndex(([across, down]) => width * down === height * across);
  if (aspect < 0 || width % 8 !== 0) throw new Error(`${width}x${height} is no standard timing`);
  return [width / 8 - 31, (aspect << 6) | (REFRESH_HZ - 60)];
}

/** CVT with reduced blanking, version 1 (VESA CVT 1.2, §3.4): blanking of 160 pixels and at least 460 µs. */
export function reducedBlanking({ width, height }: Mode): { clockKHz: number; hBlank: number; hFront: number; hSync: number; vBlank: number; vFront: number; vSync: number } {
  const hBlank = 160;
  const hFront = 48;
  const hSync = 32;
  const vFront = 3;
  const minimumBlankUs = 460;
  const minimumBackPorch = 6;
  const [vSync] = [[4, 4 / 3], [5, 16 / 9], [6, 16 / 10], [7, 5 / 4], [7, 15 / 9]].find(([, aspect]) => Math.abs(width / height - aspect) < 0.001) ?? [10];
  const lineUs = (1e6 / REFRESH_HZ - minimumBlankUs) / height;
  const vBlank = Math.max(Math.floor(minimumBlankUs / lineUs) + 1, vFront + vSync + minimumBackPorch);
  const clockKHz = Math.floor((REFRESH_HZ * (height + vBlank) * (width + hBlank)) / 250_000) * 250;
  return { clockKHz, hBlank, hFront, hSync, vBlank, vFront, vSync };
}

/** A detailed timing descriptor (§3.10.2); every mode fills the screen, whose size the `native` mode gives. */
function detailedTiming(mode: Mode, native: Mode): number[] {
  const { clockKHz, hBlank, hFront, hSync, vBlank, vFront, vSync } = reducedBlanking(mode);
  const clock = clockKHz / 10;
  const widthMm = Math.round(native.width * MM_PER_PIXEL);
  const heightMm = Math.round(native.height * MM_PER_PIXEL);
  const low = (value: number): number => value & 0xff;
  const high = (value: number): number => (value >> 8) & 0xf;
  return [
    low(clock), clock >> 8,
    low(mode.width), low(hBlank), (high(mode.width) << 4) | high(hBlank),
    low(mode.height), low(vBlank), (high(mode.height) << 4) | high(vBlank),
    low(hFront), low(hSync), ((vFront & 0xf) << 4) | (vSync & 0xf), ((hFront >> 8) << 6) | ((hSync >> 8) << 4) | ((vFront >> 4) << 2) | (vSync >> 4),
    low(widthMm), low(heightMm), (high(widthMm) << 4) | high(heightMm),
    0, 0,
    0b0001_1010, // digital separate sync, horizontal positive, vertical negative: what reduced blanking says
  ];
}

/** A display descriptor (§3.10.3) with `data` filled up with `filler`. */
function descriptor(tag: number, data: number[], filler: number): number[] {
  const bytes = [0, 0, 0, tag, 0, ...data];
  while (bytes.length < DESCRIPTOR_BYTES) bytes.push(filler);
  return bytes;
}

function name(text: string): number[] {
  return descriptor(TAG_NAME, [...text].map((letter) => letter.charCodeAt(0)).concat(0x0a), 0x20);
}

function moreStandard(): number[] {
  const six = MORE_STANDARD.flatMap(standardTiming);
  while (six.length < 12) six.push(...UNUSED_STANDARD);
  return descriptor(TAG_STANDARD, [...six, 0x0a], 0);
}

/** The block for a monitor whose native picture is `preferred`, in pixels; both at most 4095. */
export function buildEdid(preferred: Mode): Uint8Array {
  const bytes = [
    0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,
    MANUFACTURER >> 8, MANUFACTURER & 0xff, PRODUCT & 0xff, PRODUCT >> 8,
    0, 0, 0, 0, // no serial number
    0, MADE_IN_YEAR - 1990,
    1, 4,
    DIGITAL_8_BITS,
    Math.min(255, Math.round((preferred.width * MM_PER_PIXEL) / 10)), Math.min(255, Math.round((preferred.height * MM_PER_PIXEL) / 10)),
    GAMMA_2_2, FEATURES, ...SRGB, ...ESTABLISHED,
    ...STANDARD.flatMap(standardTiming),
    ...detailedTiming(preferred, preferred),
    ...detailedTiming(LARGEST, preferred),
    ...moreStandard(),
    ...name('Vitrine'),
    0, // no extension
  ];
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.push((256 - (sum % 256)) % 256);
  return Uint8Array.from(bytes);
}
