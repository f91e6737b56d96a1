// Direct boot: recognises the kernel, puts it and everything that its boot protocol promises into guest RAM, and says how the first CPU
// starts. Pure over guest memory and files: the same call again gives the same machine, which is what a guest's reset does.
import { BootFile } from '../../../boot/boot-file.ts';
import { identify } from '../../../boot/identify.ts';
import { readElf } from '../../../boot/elf.ts';
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import { isBzImage, loadBzImage } from './bzimage.ts';
import type { BootEntry } from './entry.ts';
import { HIGH_MEMORY, memoryMap, type ByteRange } from './low-memory.ts';
import { findMultibootHeader, loadMultiboot } from './multiboot.ts';
import { loadPvh, pvhEntry } from './pvh.ts';
import type { Framebuffer } from './screen-info.ts';

export interface LoadOptions {
  /** Path of a bzImage, or of an ELF file with a Multiboot 1 header or a PVH note. */
  readonly kernel: string;
  /** Path; Multiboot kernels get it as their one module. */
  readonly initrd?: string;
  /** The command line, as the user wrote it. */
  readonly append: string;
  readonly memory: GuestMemory;
  /** The screen as the guest finds it, or null for none. */
  readonly framebuffer: Framebuffer | null;
  /** Guest-physical address of the ACPI RSDP (buildAcpi gives it), 0 for none. */
  readonly acpiRsdp: number;
  /** Where PCIEXBAR points, or null while it is off: reserved in the memory map. */
  readonly ecam: ByteRange | null;
  /** Random bytes for the guest's random number generator; 32 are usual. */
  readonly rngSeed: Uint8Array;
}

/** The header of a bzImage lies in the first 4 KiB. */
const HEAD = 4096;

/** Loads the guest. Throws VitrineError with a code "kernel-…", "initrd-…" or "command-line-…"; RAM may then be partly written. */
export function loadGuest(options: LoadOptions): BootEntry {
  const { memory } = options;
  const file = BootFile.open('kernel', options.kernel);
  try {
    if (memory.segments(0, HIGH_MEMORY) === null) throw file.error('too-big', 'the machine has less than 1 MiB of memory.', 'Give the machine more memory.');
    const input = { ...options, map: memoryMap(memory, options.ecam) };
    if (isBzImage(file.peek(0, HEAD))) return loadBzImage(file, input);
    const header = findMultibootHeader(file);
    if (header !== null) return loadMultiboot(file, header, input);
    const elf = readElf(file);
    const entry = elf === null ? null : pvhEntry(elf);
    if (elf !== null && entry !== null) return loadPvh(file, elf, entry, input);
    const looks = identify(file);
    throw file.error(looks.architecture ? 'architecture' : 'unrecognised', `it is not a kernel that this machine can start: it ${looks.what}.`, looks.remedy);
  } finally {
    file.close();
  }
}
