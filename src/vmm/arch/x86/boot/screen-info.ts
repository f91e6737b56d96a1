// struct screen_info (Linux include/uapi/linux/screen_info.h): how Linux is told of a linear framebuffer, so that its console is on the
// screen from the first line. The type is VIDEO_TYPE_EFI and not VIDEO_TYPE_VLFB: simpledrm and efifb take the former, simpledrm and vesafb
// the latter, and every distribution's kernel has efifb while several (Debian's cloud kernel) have no vesafb. Neither type means that the
// firmware is EFI; Linux asks efi_enabled() for that. What VGA text mode and the VESA BIOS would tell is left zero.

/** The framebuffer as it stands when the guest starts. */
export interface Framebuffer {
  /** Guest-physical address of the first pixel: where the display's BAR is. */
  readonly address: number;
  /** Of the whole BAR, in bytes. */
  readonly size: number;
  readonly width: number;
  readonly height: number;
  /** Bytes from a line to the next. */
  readonly stride: number;
  readonly bitsPerPixel: 32;
}

export const VIDEO_TYPE_EFI = 0x70;
export const VIDEO_CAPABILITY_64BIT_BASE = 1 << 1;
export const SCREEN_INFO_SIZE = 64;

/** Offsets in struct screen_info. */
export const SCREEN_INFO = {
  orig_video_isVGA: 0x0f, lfb_width: 0x12, lfb_height: 0x14, lfb_depth: 0x16, lfb_base: 0x18, lfb_size: 0x1c, lfb_linelength: 0x24,
  red_size: 0x26, red_pos: 0x27, green_size: 0x28, green_pos: 0x29, blue_size: 0x2a, blue_pos: 0x2b, rsvd_size: 0x2c, rsvd_pos: 0x2d,
  capabilities: 0x36, ext_lfb_base: 0x3a,
} as const;

/** Pixels are XRGB8888 in a little-endian dword: the one format of the display adapter. */
export function screenInfo(fb: Framebuffer): Uint8Array {
  const info = new DataView(new ArrayBuffer(SCREEN_INFO_SIZE));
  const S = SCREEN_INFO;
  info.setUint8(S.orig_video_isVGA, VIDEO_TYPE_EFI);
  info.setUint16(S.lfb_width, fb.width, true);
  info.setUint16(S.lfb_height, fb.height, true);
  info.setUint16(S.lfb_depth, fb.bitsPerPixel, true);
  info.setUint32(S.lfb_base, fb.address % 2 ** 32, true);
  info.setUint32(S.ext_lfb_base, Math.floor(fb.address / 2 ** 32), true);
  info.setUint32(S.capabilities, VIDEO_CAPABILITY_64BIT_BASE, true);
  info.setUint32(S.lfb_size, Math.min(fb.stride * fb.height, fb.size), true); // bytes for this type; 64 KiB units are VLFB's
  info.setUint16(S.lfb_linelength, fb.stride, true);
  info.setUint8(S.red_size, 8);
  info.setUint8(S.red_pos, 16);
  info.setUint8(S.green_size, 8);
  info.setUint8(S.green_pos, 8);
  info.setUint8(S.blue_size, 8);
  info.setUint8(S.blue_pos, 0);
  info.setUint8(S.rsvd_size, 8);
  info.setUint8(S.rsvd_pos, 24);
  return new Uint8Array(info.buffer);
}
