// What Node is told when it runs this project's files in the lab. From sources it strips types by WebAssembly, and V8 has crashed under QEMU's
// emulation while it compiled that a second time, to be quicker: so it compiles once. Bundles need none of that.

/** Node's options for a program in the lab. @param sources it is a .ts file, not a bundle */
export function nodeWords(sources: boolean): string[] {
  return ['--disable-warning=ExperimentalWarning', ...(sources ? ['--liftoff-only'] : [])];
}
