// What every freestanding guest needs: ports, the serial line, PCI configuration by ports, mapping, the display adapter. Header only.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Ports and processor.

static inline void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory"); }
static inline void out16(uint16_t port, uint16_t value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory"); }
static inline void out32(uint16_t port, uint32_t value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory"); }
static inline uint8_t in8(uint16_t port) { uint8_t v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory"); return v; }
static inline uint16_t in16(uint16_t port) { uint16_t v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory"); return v; }
static inline uint32_t in32(uint16_t port) { uint32_t v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory"); return v; }
static inline uint64_t timestamp(void) { uint32_t low, high; __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)); return ((uint64_t)high << 32) | low; }

#define AT(type, address) (*(volatile type *)(uintptr_t)(address))

enum { SERIAL_PORT = 0x3f8, DEBUG_PORT = 0xe9, EXIT_PORT = 0xf4, PM_BASE = 0x600, PM1A_CONTROL = PM_BASE + 4, PM_TIMER = PM_BASE + 8 };

/** Ends a machine that has isa-debug-exit; one that has not stays halted. */
static inline __attribute__((noreturn)) void machine_exit(uint32_t status) {
  out32(EXIT_PORT, status);
  for (;;) __asm__ volatile("cli; hlt");
}

// The serial line.

static inline void print_char(char c) {
  for (int i = 0; i < 100000 && (in8(SERIAL_PORT + 5) & 0x20) == 0; i++) {}
  out8(SERIAL_PORT, (uint8_t)c);
}
static inline void print(const char *text) {
  while (*text) {
    if (*text == '\n') print_char('\r');
    print_char(*text++);
  }
}
static inline void print_hex(uint64_t value) {
  char digits[17];
  int at = 16;
  digits[16] = 0;
  do digits[--at] = "0123456789abcdef"[value & 15]; while ((value >>= 4) != 0);
  print("0x");
  print(digits + at);
}
static inline void print_number(uint64_t value) {
  char digits[21];
  int at = 20;
  digits[20] = 0;
  do digits[--at] = (char)('0' + value % 10); while ((value /= 10) != 0);
  print(digits + at);
}

// Multiboot information and the command line.

struct multiboot_info { uint32_t flags, mem_lower, mem_upper, boot_device, command_line; };

static inline const char *command_line(uint32_t info) { return (const char *)(uintptr_t)((const struct multiboot_info *)(uintptr_t)info)->command_line; }

/** The rest of the command line behind `word`, where `word` begins one of its words; NULL when it is not there. */
static inline const char *find_word(const char *line, const char *word) {
  for (const char *at = line; *at; at++) {
    if (at != line && at[-1] != ' ') continue;
    size_t n = 0;
    while (word[n] && at[n] == word[n]) n++;
    if (!word[n]) return at + n;
  }
  return NULL;
}
static inline uint64_t parse_number(const char *text) {
  uint64_t value = 0;
  for (; *text >= '0' && *text <= '9'; text++) value = value * 10 + (uint64_t)(*text - '0');
  return value;
}

// Mapping, one to one, in pages of 2 MiB.

extern uint64_t page_directory_pointers[512], page_directories[8][512];

/** Makes [address, address + size) reachable. Returns 0 when no page directory is left, or it lies above 512 GiB. */
static inline int map_physical(uint64_t address, uint64_t size) {
  static int used = 1;
  const uint64_t large = 0x200000;
  for (uint64_t at = address & ~(large - 1); at < address + size; at += large) {
    uint64_t gib = at >> 30;
    if (gib >= 512) return 0;
    if (page_directory_pointers[gib] == 0) {
      if (used == 8) return 0;
      page_directory_pointers[gib] = (uint64_t)(uintptr_t)page_directories[used++] | 0x07;
    }
    uint64_t *directory = (uint64_t *)(uintptr_t)(page_directory_pointers[gib] & ~0xfffull);
    directory[(at >> 21) & 511] = at | 0x87;
  }
  __asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
  return 1;
}

// PCI configuration by ports.

static inline uint32_t pci_read(unsigned slot, unsigned reg) {
  out32(0xcf8, 0x80000000u | (slot << 11) | (reg & 0xfc));
  return in32(0xcfc);
}
static inline void pci_write(unsigned slot, unsigned reg, uint32_t value) {
  out32(0xcf8, 0x80000000u | (slot << 11) | (reg & 0xfc));
  out32(0xcfc, value);
}
/** The slot on bus 0 of the function with this device and vendor id, or -1. */
static inline int pci_find(uint32_t id) {
  for (unsigned slot = 0; slot < 32; slot++) if (pci_read(slot, 0) == id) return (int)slot;
  return -1;
}
/** Address of a memory BAR. */
static inline uint64_t pci_bar(unsigned slot, unsigned index) {
  uint32_t low = pci_read(slot, 0x10 + 4 * index);
  uint64_t high = (low & 6) == 4 ? pci_read(slot, 0x14 + 4 * index) : 0;
  return (high << 32) | (low & ~15u);
}

// The display adapter (bochs-display): DISPI registers in BAR 2.

enum { DISPLAY_ID = 0x11111234, DISPI = 0x500, DISPI_ID = 0, DISPI_XRES = 1, DISPI_YRES = 2, DISPI_BPP = 3, DISPI_ENABLE = 4, DISPI_VIRT_WIDTH = 6, DISPI_X_OFFSET = 8, DISPI_Y_OFFSET = 9 };

struct display { unsigned slot; uint64_t framebuffer, registers; };

static inline uint16_t dispi_read(const struct display *d, unsigned index) { return AT(uint16_t, d->registers + DISPI + 2 * index); }
static inline void dispi_write(const struct display *d, unsigned index, uint16_t value) { AT(uint16_t, d->registers + DISPI + 2 * index) = value; }

/** Finds and maps the adapter, `bytes` of its memory. */
static inline int display_find(struct display *d, uint64_t bytes) {
  int slot = pci_find(DISPLAY_ID);
  if (slot < 0) return 0;
  d->slot = (unsigned)slot;
  pci_write(d->slot, 4, pci_read(d->slot, 4) | 2);
  d->framebuffer = pci_bar(d->slot, 0);
  d->registers = pci_bar(d->slot, 2);
  return map_physical(d->framebuffer, bytes) && map_physical(d->registers, 4096);
}
static inline void display_set_mode(const struct display *d, uint16_t width, uint16_t height) {
  dispi_write(d, DISPI_ENABLE, 0);
  dispi_write(d, DISPI_XRES, width);
  dispi_write(d, DISPI_YRES, height);
  dispi_write(d, DISPI_BPP, 32);
  dispi_write(d, DISPI_VIRT_WIDTH, width);
  dispi_write(d, DISPI_X_OFFSET, 0);
  dispi_write(d, DISPI_Y_OFFSET, 0);
  dispi_write(d, DISPI_ENABLE, 0x41);
  AT(uint8_t, d->registers + 0x400) = 0x20; // the palette is shown: VGA's way to unblank
}
