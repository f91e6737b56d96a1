// A test of the machine from inside: every fixed device answers as it should. One line a check on the serial port and the debug port, "ok NAME" or
// "FAIL NAME …"; "skip NAME" where the machine has been given no such device. Ends by isa-debug-exit with 0, or 1 when a check failed.
#include "guest.h"

enum { IOAPIC = 0xfec00000u, LAPIC = 0xfee00000u, LAPIC_ID = 0x20, LAPIC_SPURIOUS = 0xf0, LAPIC_COMMAND = 0x300, LAPIC_TARGET = 0x310 };
enum { TIMER_VECTOR = 0x40, SERIAL_VECTOR = 0x41, SPURIOUS_VECTOR = 0xff, TIMER_PIN = 2, SERIAL_PIN = 4, PINS = 24 };
enum { PROCESSOR_PAGE = 0x70000, FW_CFG_SELECT = 0x510, FW_CFG_DATA = 0x511, PIT_DATA = 0x40, PIT_CONTROL = 0x43, CMOS_INDEX = 0x70, CMOS_DATA = 0x71 };
enum { PM_TIMER_HZ = 3579545, PM_TIMER_MASK = 0xffffff, WIDTH = 1280, HEIGHT = 800 };

void timer_interrupt(void), serial_interrupt(void), ignored_interrupt(void);
extern const uint8_t processor_start[], processor_end[];
extern volatile uint32_t timer_count, serial_count;
extern uint32_t processor_counter_offset;

static int failures;
static struct display display;

static void say(const char *text) {
  print(text);
  while (*text) out8(DEBUG_PORT, (uint8_t)*text++);
}

/** Reports one check; on failure also what was seen. */
static int check(const char *name, int passed, uint64_t seen) {
  say(passed ? "ok " : "FAIL ");
  say(name);
  if (!passed) {
    print(" (saw ");
    print_hex(seen);
    print(")");
    failures++;
  }
  say("\n");
  return passed;
}

static uint32_t pm_timer(void) { return in32(PM_TIMER) & PM_TIMER_MASK; }

/** Waits until `*word` is at least `value`, at most a second. */
static int wait_for(volatile uint32_t *word, uint32_t value) {
  uint32_t last = pm_timer(), passed = 0;
  while (*word < value && passed < PM_TIMER_HZ) {
    uint32_t now = pm_timer();
    passed += (now - last) & PM_TIMER_MASK;
    last = now;
  }
  return *word >= value;
}

static void pause_microseconds(uint32_t time) {
  for (uint32_t begin = pm_timer(); ((pm_timer() - begin) & PM_TIMER_MASK) < time * 36 / 10;) {}
}

static void check_serial(void) {
  uint8_t modem = in8(SERIAL_PORT + 4);
  out8(SERIAL_PORT + 4, 0x10); // loop back
  out8(SERIAL_PORT, 0xa5);
  uint8_t back = in8(SERIAL_PORT);
  out8(SERIAL_PORT + 4, modem);
  check("serial loop", back == 0xa5, back);
  if (in8(DEBUG_PORT) == DEBUG_PORT) check("debug port", 1, 0);
  else print("skip debug port\n");
}

static void check_pci(void) {
  uint32_t id = pci_read(0, 0);
  check("host bridge", id == 0x29c08086, id);
  out32(0xcf8, 0x80000000u);
  uint32_t parts = in16(0xcfc) | (uint32_t)in8(0xcfe) << 16 | (uint32_t)in8(0xcff) << 24;
  check("configuration by bytes and words", parts == id, parts);
  check("address latch", in32(0xcf8) == 0x80000000u, in32(0xcf8));
  check("nothing there reads as ones", pci_read(30, 0) == 0xffffffffu, pci_read(30, 0));
  uint64_t ecam = (pci_read(0, 0x60) & 0xfc000000u) | (uint64_t)pci_read(0, 0x64) << 32;
  if (!check("ECAM is on", (pci_read(0, 0x60) & 1) != 0 && map_physical(ecam, 0x200000), ecam)) return;
  uint32_t wrong = 0;
  for (unsigned slot = 0; slot < 32; slot++) if (AT(uint32_t, ecam + (slot << 15)) != pci_read(slot, 0)) wrong |= 1u << slot;
  check("ECAM agrees with ports", wrong == 0, wrong);
  check("ECAM by bytes and words", AT(uint16_t, ecam) == (id & 0xffff) && AT(uint8_t, ecam + 3) == id >> 24, AT(uint16_t, ecam));
  check("LPC bridge", pci_read(31, 0) == 0x29188086, pci_read(31, 0));
}

static void check_display(void) {
  if (pci_find(DISPLAY_ID) < 0) {
    print("skip display\n");
    return;
  }
  if (!check("display is found", display_find(&display, WIDTH * HEIGHT * 4), display.framebuffer)) return;
  check("DISPI id", (dispi_read(&display, DISPI_ID) & 0xfff0) == 0xb0c0, dispi_read(&display, DISPI_ID));
  display_set_mode(&display, WIDTH, HEIGHT);
  check("mode is set", dispi_read(&display, DISPI_XRES) == WIDTH && dispi_read(&display, DISPI_ENABLE) & 1, dispi_read(&display, DISPI_XRES));
  uint64_t registers = display.registers + DISPI;
  uint64_t wide = AT(uint64_t, registers);
  check("MMIO of 8 bytes", (uint16_t)(wide >> 16) == WIDTH && (uint16_t)(wide >> 32) == HEIGHT && wide >> 48 == 32, wide);
  check("MMIO of 4 bytes", AT(uint32_t, registers + 4) == (HEIGHT | 32u << 16), AT(uint32_t, registers + 4));
  check("MMIO of 1 byte", AT(uint8_t, registers + 2) == (WIDTH & 0xff) && AT(uint8_t, registers + 3) == WIDTH >> 8, AT(uint8_t, registers + 2));

  uint64_t fb = display.framebuffer;
  for (int band = 0; band < 8; band++) { // eight stripes, a few rows each: ring 0 may be slow
    static const uint32_t colours[8] = { 0xffffff, 0xffff00, 0x00ffff, 0x00ff00, 0xff00ff, 0xff0000, 0x0000ff, 0x202020 };
    uint64_t *to = (uint64_t *)(fb + (uint64_t)band * 100 * WIDTH * 4), count = WIDTH * 8 / 2, value = (uint64_t)colours[band] << 32 | colours[band];
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  }
  check("pixels stay", AT(uint32_t, fb + 100 * WIDTH * 4) == 0xffff00 && AT(uint16_t, fb + 2) == 0xff && AT(uint8_t, fb + 500 * WIDTH * 4 + 2) == 0xff, AT(uint32_t, fb));

  uint32_t bar = pci_read(display.slot, 0x10);
  pci_write(display.slot, 0x10, 0xffffffffu);
  uint32_t size = ~(pci_read(display.slot, 0x10) & ~15u) + 1;
  pci_write(display.slot, 0x10, bar);
  check("BAR has a size", size >= WIDTH * HEIGHT * 4 && (size & (size - 1)) == 0, size);
  uint64_t moved = fb + 4ull * size;
  if (map_physical(moved, 4096) && pci_bar(display.slot, 0) == fb) {
    pci_write(display.slot, 0x10, (uint32_t)moved | (bar & 15));
    uint32_t pixel = AT(uint32_t, moved);
    uint32_t left = AT(uint32_t, fb);
    pci_write(display.slot, 0x10, bar);
    check("BAR moves with its picture", pixel == 0xffffff && left == 0xffffffffu, pixel);
    check("BAR is back", AT(uint32_t, fb) == 0xffffff, AT(uint32_t, fb));
  }
}

static uint8_t cmos(uint8_t index) {
  out8(CMOS_INDEX, index);
  return in8(CMOS_DATA);
}

static int binary(uint8_t value) { return cmos(0x0b) & 4 ? value : (value >> 4) * 10 + (value & 15); }

static void check_clocks(void) {
  uint32_t begin = pm_timer();
  pause_microseconds(100);
  check("power management timer runs", pm_timer() != begin, begin);
  out8(PIT_CONTROL, 0x34);
  out8(PIT_DATA, 0);
  out8(PIT_DATA, 0);
  uint16_t counts[2];
  for (int i = 0; i < 2; i++) {
    pause_microseconds(100);
    out8(PIT_CONTROL, 0);
    counts[i] = in8(PIT_DATA);
    counts[i] |= (uint16_t)(in8(PIT_DATA) << 8);
  }
  check("PIT counts", counts[0] != counts[1], counts[0]);
  for (int i = 0; i < 1000 && cmos(0x0a) & 0x80; i++) {}
  int seconds = binary(cmos(0)), minutes = binary(cmos(2)), day = binary(cmos(7)), month = binary(cmos(8));
  check("clock tells a date", seconds < 60 && minutes < 60 && day >= 1 && day <= 31 && month >= 1 && month <= 12, (uint64_t)(month * 100 + day));
  check("clock has power", (cmos(0x0d) & 0x80) != 0, cmos(0x0d));
}

static void check_keyboard_controller(void) {
  for (int i = 0; i < 16 && in8(0x64) & 1; i++) in8(0x60);
  out8(0x64, 0xaa);
  for (int i = 0; i < 1000 && !(in8(0x64) & 1); i++) {}
  uint8_t answer = in8(0x60);
  check("keyboard controller", answer == 0x55, answer);
}

static void check_firmware_configuration(void) {
  uint8_t bytes[4];
  void *to = bytes;
  uint64_t count = 4;
  out16(FW_CFG_SELECT, 0);
  __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(FW_CFG_DATA) : "memory");
  uint32_t word = *(uint32_t *)bytes;
  check("fw_cfg, by a string instruction", word == 0x554d4551, word);
}

static int adds_up(uint64_t address, uint32_t length) {
  uint8_t sum = 0;
  for (uint32_t i = 0; i < length; i++) sum = (uint8_t)(sum + AT(uint8_t, address + i));
  return sum == 0;
}

/** @return processors that the MADT tells of. */
static uint32_t check_acpi(void) {
  uint64_t root = 0;
  for (uint64_t at = 0xe0000; at < 0x100000 && !root; at += 16) if (AT(uint64_t, at) == 0x2052545020445352ull) root = at;
  if (!check("ACPI root", root && adds_up(root, 36), root)) return 1;
  uint64_t list = AT(uint64_t, root + 24), madt = 0;
  uint32_t length = AT(uint32_t, list + 4), tables = 0, wrong = !adds_up(list, length);
  for (uint64_t at = list + 36; at < list + length; at += 8, tables++) {
    uint64_t table = AT(uint64_t, at);
    wrong += !adds_up(table, AT(uint32_t, table + 4));
    if (AT(uint32_t, table) == 0x43495041) madt = table;
  }
  check("ACPI tables add up", tables >= 2 && wrong == 0, tables << 8 | wrong);
  if (!check("MADT", madt != 0, 0)) return 1;
  uint32_t processors = 0;
  for (uint64_t at = madt + 44; at < madt + AT(uint32_t, madt + 4); at += AT(uint8_t, at + 1)) {
    uint8_t type = AT(uint8_t, at);
    processors += type == 0 || type == 9;
  }
  return processors;
}

static uint32_t ioapic_read(uint32_t reg) {
  AT(uint32_t, IOAPIC) = reg;
  return AT(uint32_t, IOAPIC + 0x10);
}
static void ioapic_route(uint32_t pin, uint32_t low) {
  AT(uint32_t, IOAPIC) = 0x11 + 2 * pin;
  AT(uint32_t, IOAPIC + 0x10) = AT(uint32_t, LAPIC + LAPIC_ID) & 0xff000000u;
  AT(uint32_t, IOAPIC) = 0x10 + 2 * pin;
  AT(uint32_t, IOAPIC + 0x10) = low;
}

struct gate { uint16_t offset_low, selector; uint8_t stack, type; uint16_t offset_middle; uint32_t offset_high, zero; };
static struct gate gates[256];

static void set_gate(unsigned vector, void (*handler)(void)) {
  uint64_t at = (uint64_t)(uintptr_t)handler;
  gates[vector] = (struct gate){ (uint16_t)at, 0x10, 0, 0x8e, (uint16_t)(at >> 16), (uint32_t)(at >> 32), 0 };
}

static void check_interrupts(void) {
  if (!check("APICs are mapped", map_physical(IOAPIC, 4096) && map_physical(LAPIC, 4096), 0)) return;
  set_gate(TIMER_VECTOR, timer_interrupt);
  set_gate(SERIAL_VECTOR, serial_interrupt);
  set_gate(SPURIOUS_VECTOR, ignored_interrupt);
  struct { uint16_t limit; uint64_t base; } __attribute__((packed)) pointer = { sizeof gates - 1, (uint64_t)(uintptr_t)gates };
  __asm__ volatile("lidt %0" : : "m"(pointer));
  out8(0x21, 0xff); // the old controllers are silent
  out8(0xa1, 0xff);
  AT(uint32_t, LAPIC + LAPIC_SPURIOUS) = 0x100 | SPURIOUS_VECTOR;
  check("IOAPIC has 24 pins", (ioapic_read(1) >> 16 & 0xff) == PINS - 1, ioapic_read(1));
  ioapic_route(TIMER_PIN, TIMER_VECTOR);
  out8(PIT_CONTROL, 0x34); // 100 a second
  out8(PIT_DATA, 11932 & 0xff);
  out8(PIT_DATA, 11932 >> 8);
  __asm__ volatile("sti");
  check("timer interrupts through the IOAPIC", wait_for(&timer_count, 3), timer_count);
  ioapic_route(TIMER_PIN, 1u << 16 | TIMER_VECTOR);
  ioapic_route(SERIAL_PIN, SERIAL_VECTOR);
  out8(SERIAL_PORT + 4, 0x0b); // the line's gate
  out8(SERIAL_PORT + 1, 2); // transmitter empty
  check("serial interrupt", wait_for(&serial_count, 1), serial_count);
  out8(SERIAL_PORT + 1, 0);
  ioapic_route(SERIAL_PIN, 1u << 16 | SERIAL_VECTOR);
  __asm__ volatile("cli");
}

static void check_processors(uint32_t processors) {
  if (processors < 2) {
    print("skip other processors: there are none\n");
    return;
  }
  for (size_t i = 0; i < (size_t)(processor_end - processor_start); i++) AT(uint8_t, PROCESSOR_PAGE + i) = processor_start[i];
  volatile uint32_t *started = &AT(uint32_t, PROCESSOR_PAGE + processor_counter_offset);
  AT(uint32_t, LAPIC + LAPIC_TARGET) = 0;
  AT(uint32_t, LAPIC + LAPIC_COMMAND) = 0xc4500; // INIT to all others
  pause_microseconds(10000);
  for (int i = 0; i < 2 && *started < processors - 1; i++) {
    AT(uint32_t, LAPIC + LAPIC_COMMAND) = 0xc4600 | PROCESSOR_PAGE >> 12; // start-up
    pause_microseconds(200);
    if (wait_for(started, processors - 1)) break;
  }
  check("other processors start", *started == processors - 1, *started);
}

void guest_main(uint32_t info) {
  print("Vitrine selftest\n");
  check("command line", find_word(command_line(info), "selftest.elf") != NULL || command_line(info)[0] != 0, 0);
  check_serial();
  check_pci();
  check_display();
  check_clocks();
  check_keyboard_controller();
  check_firmware_configuration();
  uint32_t processors = check_acpi();
  check_interrupts();
  check_processors(processors);
  print(failures ? "selftest failed\n" : "selftest passed\n");
  machine_exit(failures ? 1 : 0);
}
