// The machine's own PCI test device (1234:7e57), as it looks from inside. The first one stays where it is: no access to it may ever be lost.
// The others move, each BAR of theirs, and what they have counted at the end must be what was done to them.
#include "fire.h"

enum { TEST_ID = 0x7e571234, BAR = 0x10, ROM = 0x30, MAGIC = 0x54535456, ROM_BEGIN = 0xcb08aa55, ROM_NAME = 0x52494350 };
/** Its registers, from the start of BAR 0 and of BAR 1. */
enum {
  R_MAGIC = 0x00, R_INSTANCE = 0x04, R_SCRATCH = 0x08, R_ACTIVATIONS = 0x10, R_DEACTIVATIONS = 0x14, R_FAILED = 0x18, R_CONFIG_WRITES = 0x1c,
  R_READS = 0x28, R_WRITES = 0x2c, R_BAR_SELECT = 0x30, R_BAR_LOW = 0x34, R_BAR_HIGH = 0x38, R_DOORBELLS = 0x44, R_END = 0x48,
  R_DOORBELL = 0x100, COUNTED = 0x800, COUNTED_END = 0x1000,
};
enum { BAR0_BYTES = 0x2000, BAR1_PORTS = 0x100, BAR2_BYTES = 0x20000, BAR4_BYTES = 0x1000, BAR5_BYTES = 0x100, ROM_BYTES = 0x1000 };
/** Of BAR 2: what is memory, and how much of it is whole pages. */
enum { MEMORY_BYTES = 0xf800, MAPPED_BYTES = 0xf000, BESIDE = 0x6000 };
enum { MSIX_ENTRY = 0x10, MSIX_DATA = 8, MAX_DEVICES = 4 };
/** Where all meet; where each has a MiB, 256 ports of its own; and the same above 4 GiB. */
enum { ARENA = 0xe0000000, OWN = 0xe1000000, OWN_BYTES = 0x100000, ARENA_PORTS = 0x3000, OWN_PORTS = 0x4000, IN_PICTURE = 0xd0000000 };
#define OWN_HIGH 0x1000000u

static struct device {
  struct function *function;
  struct target *registers, *ports, *memory, *messages, *small, *rom;
  uint32_t active, config_writes, reads;
} devices[MAX_DEVICES];
static uint32_t device_count;

static uint32_t instance(const struct function *f) { return (uint32_t)f->slot << 3; }
static uint32_t counted(const struct function *f, uint32_t offset) { return instance(f) << 16 | (offset & 0xffff); }
static const struct device *device_of(const struct target *t) {
  uint32_t n = 0;
  while (devices[n].function != t->function) n++;
  return &devices[n];
}

static int may_registers(const struct target *t, uint32_t offset, uint32_t value, int sure) {
  if (offset == R_MAGIC) return value == MAGIC;
  if (offset == R_INSTANCE) return value == instance(t->function);
  if (offset == R_BAR_LOW && sure) {
    // BAR_SELECT says 0 all along: where BAR 0 is now, by its registers.
    const struct target *of = device_of(t)->registers;
    return value == (uint32_t)of->place[of->now];
  }
  if (offset >= COUNTED && offset < COUNTED_END) return value == counted(t->function, offset);
  return offset < R_END || value == 0;
}

static int may_memory(const struct target *t, uint32_t offset, uint32_t value, int sure) {
  (void)sure;
  return value == (offset < MEMORY_BYTES ? pattern(offset) : counted(t->function, offset));
}

/** Masks of vectors and what else is not looked at. */
static int may_messages(const struct target *t, uint32_t offset, uint32_t value, int sure) {
  (void)t, (void)sure;
  return offset % 4 == 0 && value < 0x1000000;
}

static int may_small(const struct target *t, uint32_t offset, uint32_t value, int sure) {
  (void)t, (void)sure;
  return offset < BAR5_BYTES && value == 0;
}

static int may_rom(const struct target *t, uint32_t offset, uint32_t value, int sure) {
  (void)t, (void)sure;
  if (offset == 0) return value == ROM_BEGIN;
  if (offset == 0x1c) return value == ROM_NAME;
  return offset > 0x30 && offset < ROM_BYTES - 4 ? value == 0 : 1;
}

/** An address above 4 GiB that BARs answer at: the window's place depends on the processor's address bits. 0 when there is none. */
static uint64_t find_high(unsigned slot) {
  for (uint64_t at = 1ull << 36; at >= 1ull << 32; at >>= 1) {
    if (!map_physical(at + OWN_HIGH, 4)) continue;
    uint32_t low = pci_read(slot, BAR + 8), high = pci_read(slot, BAR + 12);
    pci_write(slot, BAR + 8, OWN_HIGH | (low & 15));
    pci_write(slot, BAR + 12, (uint32_t)(at >> 32));
    uint32_t answer = AT(uint32_t, at + OWN_HIGH + MEMORY_BYTES);
    pci_write(slot, BAR + 12, high);
    pci_write(slot, BAR + 8, low);
    if (answer != NOTHING) return at;
  }
  return 0;
}

static void add_device(unsigned slot, uint32_t n) {
  int moves = n > 0;
  uint64_t high = find_high(slot), own = OWN + n * OWN_BYTES;
  pci_write(slot, ROM, pci_read(slot, ROM) | 1);
  struct device *d = &devices[device_count++];
  struct function *f = d->function = add_function(slot, moves ? (uint8_t)(n - 1) : NOBODY);

  const uint64_t registers[] = { ARENA, own, IN_PICTURE + 0x2000, ARENA + 0x2000 };
  struct target *t = d->registers = add_target("test device's registers", f, BAR, BAR0_BYTES, registers, moves ? 4 : 0);
  t->may = may_registers;
  add_probe(t, R_MAGIC);
  add_probe(t, COUNTED + 4);
  add_cell(t, R_WRITES);
  add_doorbell(t, R_DOORBELL);

  const uint64_t ports[] = { ARENA_PORTS, OWN_PORTS + n * BAR1_PORTS, ARENA_PORTS + BAR1_PORTS };
  t = d->ports = add_target("test device's ports", f, BAR + 4, BAR1_PORTS, ports, moves ? 3 : 0);
  t->may = may_registers;
  add_probe(t, R_INSTANCE);
  add_probe(t, R_BAR_LOW);
  add_cell(t, R_SCRATCH);

  const uint64_t memory[] = { ARENA, own + 0x20000, high + OWN_HIGH + n * OWN_BYTES, high + OWN_HIGH };
  t = d->memory = add_target("test device's memory", f, BAR + 8, BAR2_BYTES, memory, moves ? (high ? 4 : 2) : 0);
  t->may = may_memory;
  add_probe(t, 0x104);
  add_probe(t, COUNTED + BAR2_BYTES / 2);
  add_cell(t, 0x2004);
  add_cell(t, MAPPED_BYTES + 0x104);

  // Pages in the midst of memory that never moves.
  uint64_t beside = devices[0].memory->place[0] + BESIDE;
  const uint64_t messages[] = { ARENA + 0x1000, own + 0x40000, ARENA + 0x3000, beside };
  t = d->messages = add_target("test device's messages", f, BAR + 16, BAR4_BYTES, messages, moves ? 4 : 0);
  t->may = may_messages;
  add_cell(t, MSIX_DATA);
  add_cell(t, MSIX_ENTRY + MSIX_DATA);

  const uint64_t small[] = { ARENA + 0x2100, own + 0x41000 + BAR5_BYTES, IN_PICTURE + SMALL_IN_PICTURE, beside + 0x2100 };
  t = d->small = add_target("test device's small memory", f, BAR + 20, BAR5_BYTES, small, moves ? 4 : 0);
  t->may = may_small;
  add_probe(t, 0x40);
  add_cell(t, 0x10);

  const uint64_t rom[] = { ARENA, own + 0x42000, ARENA + 0x4000, beside + 0x4000 };
  t = d->rom = add_target("test device's ROM", f, ROM, ROM_BYTES, rom, moves ? 4 : 0);
  t->may = may_rom;
  add_probe(t, 0);
  add_probe(t, 0x1c);

  map_physical(d->registers->place[0], BAR0_BYTES);
  map_physical(d->memory->place[0], BAR2_BYTES);
  for (uint32_t offset = 0; offset < MEMORY_BYTES; offset += 4) AT(uint32_t, d->memory->place[0] + offset) = pattern(offset);
  uint64_t at = d->registers->place[0];
  AT(uint32_t, at + R_BAR_SELECT) = 0;
  d->active = AT(uint32_t, at + R_ACTIVATIONS) - AT(uint32_t, at + R_DEACTIVATIONS);
  d->config_writes = AT(uint32_t, at + R_CONFIG_WRITES);
  d->reads = AT(uint32_t, at + R_READS);
}

void find_test_devices(void) {
  for (unsigned slot = 0; slot < 32 && device_count < MAX_DEVICES; slot++) if (pci_read(slot, 0) == TEST_ID) add_device(slot, device_count);
}

void note_counted(uint32_t value) {
  for (uint32_t n = 0; n < device_count; n++) {
    if (value >> 16 == instance(devices[n].function) && (value & 0xffff) >= COUNTED) add(&devices[n].function->counted_reads, 1);
  }
}

uint64_t still_memory(uint32_t *value) {
  if (device_count == 0) return 0;
  *value = pattern(0x104);
  return devices[0].memory->place[0] + 0x104;
}

struct target *small_target(void) { return device_count > 1 ? devices[1].small : NULL; }

static void expect_count(const struct device *d, const char *what, uint32_t saw, uint32_t least, uint32_t most) {
  if (saw < least || saw > most) wrong(what, "test device's count", d->function->slot, saw, (uint64_t)least << 32 | most);
}

void check_test_devices(void) {
  for (struct device *d = devices; d < devices + device_count; d++) {
    const struct function *f = d->function;
    uint64_t at = d->registers->place[0];
    uint32_t active = AT(uint32_t, at + R_ACTIVATIONS) - AT(uint32_t, at + R_DEACTIVATIONS), config_writes = AT(uint32_t, at + R_CONFIG_WRITES) - d->config_writes;
    expect_count(d, "BARs that are active", active, d->active, d->active);
    expect_count(d, "activations that failed", AT(uint32_t, at + R_FAILED), 0, 0);
    expect_count(d, "configuration writes", config_writes, f->config_writes, f->config_writes);
    expect_count(d, "reads of counted areas", AT(uint32_t, at + R_READS) - d->reads, f->counted_reads, f->counted_reads);
    expect_count(d, "doorbells", AT(uint32_t, at + R_DOORBELLS), f->rung, f->rung + f->maybe_rung);
    const struct target *bars[] = { d->registers, d->ports, d->memory, NULL, d->messages, d->small, d->rom };
    for (uint32_t index = 0; index < 7; index++) {
      if (bars[index] == NULL) continue;
      AT(uint32_t, at + R_BAR_SELECT) = index;
      uint64_t saw = AT(uint32_t, at + R_BAR_LOW) | (uint64_t)AT(uint32_t, at + R_BAR_HIGH) << 32;
      if (saw != bars[index]->place[0]) wrong("place that the device names", bars[index]->name, index, saw, bars[index]->place[0]);
    }
    AT(uint32_t, at + R_BAR_SELECT) = 0;
  }
}
