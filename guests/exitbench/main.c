// A tight loop of exits, for the benchmark of what an exit costs. Command line: `io=COUNT` writes that many bytes to port 0x80;
// `mmio=COUNT` reads a register of the display adapter that often; with neither, io=1000. It prints "exitbench KIND COUNT CYCLES" (of the time
// stamp counter) and ends with status 0, or 1 when there is no display to read.
#include "guest.h"

static void report(const char *kind, uint64_t count, uint64_t cycles) {
  print("exitbench ");
  print(kind);
  print_char(' ');
  print_number(count);
  print_char(' ');
  print_number(cycles);
  print("\n");
}

void guest_main(uint32_t info) {
  const char *line = command_line(info);
  const char *io = find_word(line, "io=");
  const char *mmio = find_word(line, "mmio=");
  struct display display;
  if (!io && !mmio) io = "1000";
  if (io) {
    uint64_t count = parse_number(io), left = count, begin = timestamp();
    if (left) __asm__ volatile("1: outb %%al, $0x80; dec %0; jnz 1b" : "+r"(left) : "a"(0) : "memory");
    report("io", count, timestamp() - begin);
  }
  if (mmio) {
    if (!display_find(&display, 4096)) machine_exit(1);
    uint64_t count = parse_number(mmio), left = count, begin = timestamp();
    volatile uint32_t *reg = &AT(uint32_t, display.registers + DISPI);
    if (left) __asm__ volatile("1: movl (%1), %%eax; dec %0; jnz 1b" : "+r"(left) : "r"(reg) : "eax", "memory");
    report("mmio", count, timestamp() - begin);
  }
  machine_exit(0);
}
