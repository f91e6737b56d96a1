// What a file that is no kernel for this machine looks like, in words for an error: told from the first 4 KiB and, for ISO 9660, from
// the volume descriptor at 32 KiB. Facts: the formats' own documents; arm64 Image header in Documentation/arm64/booting.rst.
import type { BootFile } from './boot-file.ts';

export interface Looks {
  /** A clause that follows "it": "is an ISO 9660 image (a CD or DVD)". */
  readonly what: string;
  readonly remedy: string;
  /** True when it is a kernel or program, but for another kind of processor. */
  readonly architecture: boolean;
}

const KERNEL_REMEDY = 'Choose a Linux bzImage (often named vmlinuz), or an ELF kernel for PVH or Multiboot.';

/** Names of ELF e_machine values that one meets. */
const ELF_MACHINES: Readonly<Record<number, string>> = {
  2: 'SPARC', 3: 'i386', 8: 'MIPS', 20: 'PowerPC', 21: '64-bit PowerPC', 22: 'S/390', 40: '32-bit ARM', 43: 'SPARC64', 62: 'x86-64',
  183: 'arm64', 243: 'RISC-V', 258: 'LoongArch',
};

/** Names of PE machine values. */
const PE_MACHINES: Readonly<Record<number, string>> = { 0x14c: 'i386', 0x1c0: '32-bit ARM', 0x5032: 'RISC-V', 0x5064: 'RISC-V', 0x6264: 'LoongArch', 0x8664: 'x86-64', 0xaa64: 'arm64' };

interface Magic {
  readonly offset: number;
  readonly bytes: string;
  readonly what: string;
  readonly remedy: string;
}

const DISK = 'Attach it as a disk instead of giving it as the kernel.';
const PACKED = 'Unpack it first.';
const MAGICS: readonly Magic[] = [
  { offset: 0, bytes: '\x1f\x8b', what: 'is compressed with gzip', remedy: PACKED },
  { offset: 0, bytes: '\xfd7zXZ\x00', what: 'is compressed with xz', remedy: PACKED },
  { offset: 0, bytes: '\x28\xb5\x2f\xfd', what: 'is compressed with zstd', remedy: PACKED },
  { offset: 0, bytes: 'BZh', what: 'is compressed with bzip2', remedy: PACKED },
  { offset: 0, bytes: '\x04\x22\x4d\x18', what: 'is compressed with lz4', remedy: PACKED },
  { offset: 0, bytes: '\x02\x21\x4c\x18', what: 'is compressed with lz4', remedy: PACKED },
  { offset: 0, bytes: 'PK\x03\x04', what: 'is a zip archive', remedy: PACKED },
  { offset: 0, bytes: '070701', what: 'is a cpio archive: an initrd', remedy: 'Give it as the initrd, and a kernel beside it.' },
  { offset: 0, bytes: '!<arch>\ndebian', what: 'is a Debian package', remedy: 'Unpack it (dpkg-deb -x FILE FOLDER) and choose boot/vmlinuz-… in it.' },
  { offset: 0, bytes: '\xed\xab\xee\xdb', what: 'is an RPM package', remedy: 'Unpack it and choose the kernel in it.' },
  { offset: 0, bytes: 'QFI\xfb', what: 'is a qcow2 disk image', remedy: DISK },
  { offset: 0, bytes: 'KDMV', what: 'is a VMDK disk image', remedy: DISK },
  { offset: 0, bytes: 'vhdxfile', what: 'is a VHDX disk image', remedy: DISK },
  { offset: 0, bytes: 'conectix', what: 'is a VHD disk image', remedy: DISK },
  { offset: 0, bytes: 'hsqs', what: 'is a squashfs file system', remedy: KERNEL_REMEDY },
  { offset: 0, bytes: '\xd0\x0d\xfe\xed', what: 'is a device tree blob', remedy: KERNEL_REMEDY },
  { offset: 0, bytes: '\x27\x05\x19\x56', what: 'is a U-Boot image', remedy: KERNEL_REMEDY },
  { offset: 0, bytes: '#!', what: 'is a script', remedy: KERNEL_REMEDY },
  { offset: 0, bytes: '%PDF', what: 'is a PDF document', remedy: KERNEL_REMEDY },
  { offset: 0, bytes: '\x89PNG', what: 'is a picture', remedy: KERNEL_REMEDY },
  { offset: 257, bytes: 'ustar', what: 'is a tar archive', remedy: PACKED },
];

function has(bytes: Uint8Array, offset: number, magic: string): boolean {
  if (bytes.length < offset + magic.length) return false;
  for (let i = 0; i < magic.length; i++) if (bytes[offset + i] !== magic.charCodeAt(i)) return false;
  return true;
}

const u16 = (bytes: Uint8Array, offset: number): number => (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8);

function otherMachine(name: string, form: string): Looks {
  return { what: `is ${form} for ${name} processors`, remedy: 'Choose a kernel for x86-64.', architecture: true };
}

/** A description of a file that none of our boot protocols recognised. */
export function identify(file: BootFile): Looks {
  const head = file.peek(0, 4096);
  if (has(head, 0x38, 'ARM\x64')) return otherMachine('arm64', 'a Linux kernel');
  if (has(head, 0x38, 'RSC\x05')) return otherMachine('RISC-V', 'a Linux kernel');
  if (has(head, 0x24, '\x18\x28\x6f\x01')) return otherMachine('32-bit ARM', 'a Linux kernel');
  if (has(head, 0, '\x7fELF')) {
    const machine = head[5] === 2 ? ((head[18] ?? 0) << 8) | (head[19] ?? 0) : u16(head, 18); // big-endian files name it big-endian
    const name = ELF_MACHINES[machine] ?? `machine type ${machine}`;
    if (machine !== 62 && machine !== 3) return otherMachine(name, 'an ELF file');
    return { what: `is an ELF file for ${name} that has neither a PVH note nor a Multiboot header`, remedy: 'Choose the bzImage of that kernel, or build it with CONFIG_PVH=y.', architecture: false };
  }
  if (has(head, 0, 'MZ')) {
    const at = u16(head, 0x3c);
    if (has(head, at, 'PE\0\0')) {
      const machine = u16(head, at + 4);
      const name = PE_MACHINES[machine] ?? `machine type ${machine.toString(16)}`;
      if (machine !== 0x8664) return otherMachine(name, 'an EFI program or kernel');
      return { what: 'is an EFI or Windows program without a Linux boot header', remedy: KERNEL_REMEDY, architecture: false };
    }
    return { what: 'is a DOS program', remedy: KERNEL_REMEDY, architecture: false };
  }
  for (const magic of MAGICS) if (has(head, magic.offset, magic.bytes)) return { what: magic.what, remedy: magic.remedy, architecture: false };
  if (has(file.peek(0x8001, 5), 0, 'CD001')) return { what: 'is an ISO 9660 image (a CD or DVD)', remedy: 'Attach it as a CD, or unpack the kernel and initrd from it.', architecture: false };
  if (head.length >= 512 && u16(head, 510) === 0xaa55) return { what: 'looks like a disk image with a boot sector', remedy: DISK, architecture: false };
  if (head.every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127))) return { what: 'is a text file', remedy: KERNEL_REMEDY, architecture: false };
  if (head.every((byte) => byte === 0)) return { what: 'begins with nothing but zeros', remedy: KERNEL_REMEDY, architecture: false };
  return { what: 'is in no format that is known here', remedy: KERNEL_REMEDY, architecture: false };
}
