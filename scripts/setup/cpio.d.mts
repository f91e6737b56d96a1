// Types of cpio.mjs, which is plain JavaScript because it runs before `npm ci`.

/** A cpio archive of the "newc" kind. */
export class Cpio {
  folder(path: string, mode?: number): void;
  file(path: string, content: string | Uint8Array, mode?: number): void;
  link(path: string, target: string): void;
  device(path: string, major: number, minor: number, mode?: number): void;
  /** The archive, with its trailer. */
  end(): Buffer;
}
