// What is moved, and where to. Places are chosen so that targets meet: a page of registers in the middle of video memory, one target where another
// was a moment ago. Some places are a target's own, where accessors can be strict.
#include "fire.h"

enum { LPC_SLOT = 31, LPC_PMBASE = 0x40, PM_BLOCK = 0x80, PM_SMI_ENABLE = 0x30 };
enum { VRAM_BYTES = 32 << 20, WIDTH = 128, HEIGHT = 128, PICTURE = WIDTH * HEIGHT * 4, DISPI_FIRST = DISPI, DISPI_SECOND = DISPI + 4 };
/** Pages of the picture, by offset in video memory: registers land in the first, cells are in the second. */
enum { COVERED_PAGE = 0x4000, CELL_PAGE = 0x8000 };

struct target targets[MAX_TARGETS];
uint32_t target_count;
struct function functions[MAX_FUNCTIONS];
uint32_t function_count;

static uint32_t pattern(uint32_t offset) { return (offset >> 2) * 0x9e3779u & 0xffffff; }

static int may_cell(const struct target *t, uint32_t offset, uint32_t value, int *is_cell) {
  for (uint32_t q = 0; q < t->probes; q++) {
    if (t->probe[q].offset != offset || t->probe[q].tag == 0) continue;
    *is_cell = 1;
    return value >> 16 == t->probe[q].tag;
  }
  *is_cell = 0;
  return 0;
}

static int may_video(const struct target *t, uint32_t offset, uint32_t value) {
  int is_cell, may = may_cell(t, offset, value, &is_cell);
  return is_cell ? may : value == pattern(offset);
}

static int may_registers(const struct target *t, uint32_t offset, uint32_t value) {
  (void)t;
  if (offset == DISPI_FIRST) return value == (0xb0c5 | WIDTH << 16);
  if (offset == DISPI_SECOND) return value == (HEIGHT | 32 << 16);
  return 0;
}

static int may_power(const struct target *t, uint32_t offset, uint32_t value) {
  int is_cell, may = may_cell(t, offset, value, &is_cell);
  return is_cell ? may : offset == 8 && value >> 24 == 0;
}

static struct function *add_function(unsigned slot, int mover, uint32_t decode) {
  struct function *f = &functions[function_count++];
  f->slot = (uint8_t)slot;
  f->mover = (int8_t)mover;
  f->all = f->decode = decode;
  return f;
}

static struct target *add_target(const char *name, struct function *f, unsigned reg, uint64_t size, const uint64_t *places, uint32_t count) {
  struct target *t = &targets[target_count];
  t->name = name;
  t->function = f;
  t->mover = (uint8_t)(target_count++ % MOVERS);
  t->reg = (uint8_t)reg;
  t->size = size;
  uint32_t low = pci_read(f->slot, reg);
  t->is_io = low & 1;
  t->fixed = t->is_io ? low & 3 : low & 15;
  t->is64 = !t->is_io && (low & 6) == 4;
  t->place[t->places++] = (low - t->fixed) | (t->is64 ? (uint64_t)pci_read(f->slot, reg + 4) << 32 : 0);
  for (uint32_t p = 0; p < count; p++) t->place[t->places++] = places[p];
  return t;
}

static void add_probe(struct target *t, uint32_t offset) { t->probe[t->probes++] = (struct probe){ offset, 0, 0 }; }
static void add_cell(struct target *t, uint32_t offset) {
  static uint8_t tags;
  tags++;
  t->probe[t->probes++] = (struct probe){ offset, tags, (uint8_t)(tags % ACCESSORS) };
}

/** Where half-written addresses of 64 bits may put a target, too, and the sizing of its lower half. */
static int may_be_at(const struct target *t, uint64_t address, uint32_t *offset) {
  for (uint32_t p = 0; p < t->places; p++) {
    uint64_t place = t->place[p];
    if (address >= place && address + 4 <= place + t->size) {
      *offset = (uint32_t)(address - place);
      return 1;
    }
    if (!t->is64) continue;
    for (uint32_t other = 0; other <= t->places; other++) {
      uint64_t low = other < t->places ? (uint32_t)t->place[other] : (uint32_t)-t->size;
      place = (t->place[p] >> 32 << 32) | low;
      if (address < place || address + 4 > place + t->size) continue;
      *offset = (uint32_t)(address - place);
      return 1;
    }
  }
  return 0;
}

int legal(int is_io, uint64_t address, uint32_t value) {
  if (value == NOTHING) return 1;
  uint32_t offset;
  for (struct target *t = targets; t < targets + target_count; t++) {
    if (t->is_io == is_io && may_be_at(t, address, &offset) && t->may(t, offset, value)) return 1;
  }
  return 0;
}

static void find_exclusive(void) {
  uint32_t offset;
  for (struct target *t = targets; t < targets + target_count; t++) {
    for (uint32_t p = 0; p < t->places; p++) {
      for (uint32_t q = 0; q < t->probes; q++) {
        int others = 0;
        for (struct target *u = targets; u < targets + target_count; u++) {
          others += u != t && u->is_io == t->is_io && may_be_at(u, t->place[p] + t->probe[q].offset, &offset);
        }
        if (others == 0) t->exclusive[p] |= (uint8_t)(1 << q);
      }
    }
  }
}

static void find_display(void) {
  struct display display;
  if (!display_find(&display, PICTURE)) return;
  display_set_mode(&display, WIDTH, HEIGHT);
  struct function *f = add_function(display.slot, 3, pci_read(display.slot, 4) & 3);
  static const uint64_t memory[] = { 0xd0000000, 0xd2000000, 0xd6000000 };
  static const uint64_t registers[] = { 0xd0000000 + COVERED_PAGE, 0xe0000000, 0xd6000000 + COVERED_PAGE, 0xe0004000 };
  struct target *t = add_target("video memory", f, 0x10, VRAM_BYTES, memory, 3);
  t->may = may_video;
  add_probe(t, 0x100);
  add_probe(t, COVERED_PAGE + DISPI_FIRST);
  add_cell(t, CELL_PAGE);
  add_cell(t, CELL_PAGE + 0x1104);
  for (uint32_t offset = 0; offset < PICTURE; offset += 4) AT(uint32_t, display.framebuffer + offset) = pattern(offset);
  t = add_target("display registers", f, 0x18, 4096, registers, 4);
  t->may = may_registers;
  add_probe(t, DISPI_FIRST);
  add_probe(t, DISPI_SECOND);
}

static void find_power(void) {
  struct function *f = add_function(LPC_SLOT, -1, COMMAND_IO);
  static const uint64_t places[] = { 0x2000, 0x2080, 0x680 };
  struct target *t = add_target("power management", f, LPC_PMBASE, PM_BLOCK, places, 3);
  t->may = may_power;
  add_probe(t, 8);
  add_cell(t, PM_SMI_ENABLE);
}

void find_targets(void) {
  find_display();
  find_power();
  for (struct target *t = targets; t < targets + target_count; t++) {
    if (t->is_io) continue;
    for (uint32_t p = 0; p < t->places; p++) {
      for (uint32_t q = 0; q < t->probes; q++) map_physical(t->place[p] + t->probe[q].offset, 4);
    }
  }
  for (struct target *t = targets; t < targets + target_count; t++) {
    for (uint32_t q = 0; q < t->probes; q++) {
      if (t->probe[q].tag != 0) write_at(t, t->place[0] + t->probe[q].offset, (uint32_t)t->probe[q].tag << 16);
    }
  }
  find_exclusive();
}
