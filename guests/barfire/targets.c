// What is moved, and where to. Places are chosen so that targets meet: a page of registers in the middle of video memory, one target where another
// was a moment ago. Some places are a target's own, where accessors can be strict.
#include "fire.h"

enum { ROM_REGISTER = 0x30, LPC_SLOT = 31, LPC_PMBASE = 0x40, PM_BLOCK = 0x80, PM_SMI_ENABLE = 0x30 };
enum { VRAM_BYTES = 32 << 20, WIDTH = 128, HEIGHT = 128, PICTURE = WIDTH * HEIGHT * 4, DISPI_FIRST = DISPI, DISPI_SECOND = DISPI + 4 };
/** Pages of the picture, by offset in video memory: registers land in the first, cells are in the second. */
enum { COVERED_PAGE = 0x4000, CELL_PAGE = 0x8000 };

struct target targets[MAX_TARGETS];
uint32_t target_count;
struct target *video;
struct function functions[MAX_FUNCTIONS];
uint32_t function_count;

/** No tag and no counted value looks like it. */
uint32_t pattern(uint32_t offset) { return ((offset >> 2) * 0x9e3779u & 0x7fffff) | 0x800000; }

int may_give(const struct target *t, uint32_t offset, uint32_t value, int sure) {
  for (uint32_t q = 0; q < t->probes; q++) {
    const struct probe *probe = &t->probe[q];
    if (probe->offset == offset && probe->kind == CELL) return value >> 16 == probe->tag;
    if (probe->offset == offset && probe->kind == DOORBELL) return value == 0;
  }
  return t->may(t, offset, value, sure);
}

static int may_video(const struct target *t, uint32_t offset, uint32_t value, int sure) {
  (void)t, (void)sure;
  return value == pattern(offset);
}

static int may_registers(const struct target *t, uint32_t offset, uint32_t value, int sure) {
  (void)t, (void)sure;
  if (offset == DISPI_FIRST) return value == (0xb0c5 | WIDTH << 16);
  if (offset == DISPI_SECOND) return value == (HEIGHT | 32 << 16);
  return offset >= DISPI + 0x100 || offset < DISPI; // the monitor's data, and what is not looked at
}

static int may_power(const struct target *t, uint32_t offset, uint32_t value, int sure) {
  (void)t, (void)sure;
  return offset == 8 && value >> 24 == 0;
}

struct function *add_function(unsigned slot, uint8_t mover) {
  struct function *f = &functions[function_count++];
  f->slot = (uint8_t)slot;
  f->mover = mover;
  f->all = f->decode = pci_read(slot, 4) & (COMMAND_IO | COMMAND_MEMORY);
  return f;
}

struct target *add_target(const char *name, struct function *f, unsigned reg, uint64_t size, const uint64_t *more, uint32_t count) {
  static uint32_t moving;
  struct target *t = &targets[target_count++];
  t->name = name;
  t->function = f;
  t->mover = count > 0 ? (uint8_t)(moving++ % MOVERS) : NOBODY;
  t->reg = (uint8_t)reg;
  t->size = size;
  uint32_t low = pci_read(f->slot, reg), rom = reg == ROM_REGISTER;
  t->is_io = low & 1 && !rom;
  t->fixed = low & (rom ? 1 : t->is_io ? 3 : 15);
  t->is64 = !t->is_io && !rom && (low & 6) == 4;
  t->place[t->places++] = (low & ~t->fixed) | (t->is64 ? (uint64_t)pci_read(f->slot, reg + 4) << 32 : 0);
  for (uint32_t p = 0; p < count; p++) t->place[t->places++] = more[p];
  return t;
}

void add_probe(struct target *t, uint32_t offset) { t->probe[t->probes++] = (struct probe){ offset, LOOKED_AT, 0, 0 }; }
void add_doorbell(struct target *t, uint32_t offset) { t->probe[t->probes++] = (struct probe){ offset, DOORBELL, 0, 0 }; }
void add_cell(struct target *t, uint32_t offset) {
  static uint8_t cells;
  t->probe[t->probes++] = (struct probe){ offset, CELL, (uint8_t)(FIRST_TAG + cells), (uint8_t)(cells % ACCESSORS) };
  cells++;
}

/** Also where half-written addresses of 64 bits may put it, and the sizing of its lower half. */
static int may_be_at(const struct target *t, uint64_t address) {
  uint64_t base = address & ~(t->size - 1); // targets lie at multiples of their size
  for (uint32_t p = 0; p < t->places; p++) {
    if (t->place[p] == base) return 1;
    if (!t->is64 || t->place[p] >> 32 != base >> 32) continue;
    if ((uint32_t)base == (uint32_t)-t->size) return 1;
    for (uint32_t other = 0; other < t->places; other++) if ((uint32_t)t->place[other] == (uint32_t)base) return 1;
  }
  return 0;
}

int legal(const struct target *t, uint32_t p, uint32_t q, uint32_t value) {
  if (value == NOTHING) return 1;
  uint64_t address = t->place[p] + t->probe[q].offset;
  for (uint32_t left = t->others[p][q] | 1u << (t - targets); left != 0; left &= left - 1) {
    const struct target *u = &targets[__builtin_ctz(left)];
    if (may_give(u, (uint32_t)(address & (u->size - 1)), value, 0)) return 1;
  }
  return 0;
}

static void find_others(struct target *t, uint32_t p, uint32_t q) {
  for (struct target *u = targets; u < targets + target_count; u++) {
    if (u != t && u->is_io == t->is_io && may_be_at(u, t->place[p] + t->probe[q].offset)) t->others[p][q] |= 1u << (u - targets);
  }
}

static void find_display(void) {
  struct display display;
  if (!display_find(&display, PICTURE)) return;
  display_set_mode(&display, WIDTH, HEIGHT);
  struct function *f = add_function(display.slot, 3);
  static const uint64_t memory[] = { 0xd0000000, 0xd2000000, 0xd6000000 };
  static const uint64_t registers[] = { 0xd0000000 + COVERED_PAGE, 0xe0000000, 0xd6000000 + COVERED_PAGE, 0xe0004000 };
  struct target *t = add_target("video memory", f, 0x10, VRAM_BYTES, memory, 3);
  t->may = may_video;
  add_probe(t, 0x100);
  add_probe(t, COVERED_PAGE + DISPI_FIRST);
  add_cell(t, CELL_PAGE);
  add_cell(t, CELL_PAGE + 0x1104);
  video = t;
  for (uint32_t offset = 0; offset < PICTURE; offset += 4) AT(uint32_t, display.framebuffer + offset) = pattern(offset);
  t = add_target("display registers", f, 0x18, 4096, registers, 4);
  t->may = may_registers;
  add_probe(t, DISPI_FIRST);
  add_probe(t, DISPI_SECOND);
}

static void find_power(void) {
  struct function *f = add_function(LPC_SLOT, NOBODY);
  static const uint64_t places[] = { 0x2000, 0x2080, 0x680 };
  struct target *t = add_target("power management", f, LPC_PMBASE, PM_BLOCK, places, 3);
  t->may = may_power;
  add_probe(t, 8);
  add_cell(t, PM_SMI_ENABLE);
}

void find_targets(void) {
  find_display();
  find_power();
  find_test_devices();
  for (struct target *t = targets; t < targets + target_count; t++) {
    for (uint32_t q = 0; q < t->probes; q++) {
      for (uint32_t p = 0; p < t->places && !t->is_io; p++) map_physical(t->place[p] + t->probe[q].offset, 4);
      if (t->probe[q].kind == CELL) write_at(t, t->place[0] + t->probe[q].offset, (uint32_t)t->probe[q].tag << 16);
    }
  }
  for (struct target *t = targets; t < targets + target_count; t++) {
    for (uint32_t p = 0; p < t->places; p++) for (uint32_t q = 0; q < t->probes; q++) find_others(t, p, q);
  }
}
