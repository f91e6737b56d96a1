// Four processors that move targets about, size them while they decode, and switch decoding off and on. Two of them may do that to the same
// function; each says when its change begins and when it has ended.
#include "fire.h"

enum { PEACE = 400 };

volatile uint32_t last_moved;

static void begin(struct function *f) { add(&f->begun, 1); }
static void end(struct function *f) { add(&f->ended, 1); }

/** The address as one or two registers; the halves in either order. */
static void place_at(struct target *t, uint64_t address, int by_ports, int high_first) {
  unsigned slot = t->function->slot;
  if (t->is64 && high_first) config_write(slot, t->reg + 4, (uint32_t)(address >> 32), by_ports);
  config_write(slot, t->reg, (uint32_t)address | t->fixed, by_ports);
  if (t->is64 && !high_first) config_write(slot, t->reg + 4, (uint32_t)(address >> 32), by_ports);
}

static void expect_register(const struct target *t, uint64_t address, int by_ports) {
  uint32_t saw = config_read(t->function->slot, t->reg, by_ports);
  if (saw != ((uint32_t)address | t->fixed)) wrong("register", t->name, t->reg, saw, (uint32_t)address | t->fixed);
}

static void move(struct target *t, uint32_t place, uint32_t how) {
  begin(t->function);
  place_at(t, t->place[place], how & 1, how & 2);
  if (t->now != place) t->before = t->now;
  t->now = place;
  last_moved = (uint32_t)(t - targets);
  end(t->function);
  expect_register(t, t->place[place], how & 4);
}

static void size(struct target *t, uint32_t how) {
  unsigned slot = t->function->slot;
  uint64_t address = t->place[t->now];
  begin(t->function);
  if (how & 2 && t->is64) {
    config_write(slot, t->reg + 4, NOTHING, how & 1);
    uint32_t high = config_read(slot, t->reg + 4, how & 4);
    if (high != (uint32_t)((0 - t->size) >> 32)) wrong("size", t->name, t->reg + 4, high, (0 - t->size) >> 32);
  }
  config_write(slot, t->reg, NOTHING, how & 1);
  uint32_t low = config_read(slot, t->reg, how & 4), mask = t->is_io ? 0xffff : NOTHING;
  if ((low & mask) != (((uint32_t)-t->size | t->fixed) & mask)) wrong("size", t->name, t->reg, low, (uint32_t)-t->size | t->fixed);
  place_at(t, address, how & 1, how & 8);
  end(t->function);
  expect_register(t, address, how & 4);
}

static void decode(struct function *f, uint32_t on, uint32_t how) {
  begin(f);
  config_write16(f->slot, 4, (uint16_t)on, how & 1);
  f->decode = on;
  end(f);
  uint32_t saw = config_read(f->slot, 4, how & 4) & 3;
  if (saw != on) wrong("command", "register", f->slot, saw, on);
}

/** Only ranges of the chipset's have no sizing. */
static int can_size(const struct target *t) { return t->reg < 0x40; }

void move_about(uint32_t mover, uint32_t count) {
  struct target *mine[MAX_TARGETS];
  struct function *switched[MAX_FUNCTIONS];
  uint32_t n = 0, m = 0, random = 0x1234567 * (mover + 1);
  for (uint32_t i = 0; i < target_count; i++) if (targets[i].mover == mover) mine[n++] = &targets[i];
  for (uint32_t i = 0; i < function_count; i++) if (functions[i].mover == mover) switched[m++] = &functions[i];
  if (n + m == 0) return;
  for (uint32_t done = 0; done < count; done++) {
    // A while of peace now and then, in which accessors can be strict.
    for (uint32_t rest = random_below(&random, PEACE); rest != 0; rest--) __asm__ volatile("pause");
    uint32_t which = random_below(&random, n + m), how = random_below(&random, 16);
    if (which >= n) {
      struct function *f = switched[which - n];
      // Mostly on, or there would be nothing to be there.
      uint32_t some = random_below(&random, f->all + 1) & f->all;
      decode(f, f->decode != f->all && random_below(&random, 4) != 0 ? f->all : some, how);
      continue;
    }
    struct target *t = mine[which];
    if (can_size(t) && random_below(&random, 4) == 0) size(t, how);
    else move(t, random_below(&random, t->places), how);
  }
}

void put(struct target *t, uint32_t place) { move(t, place, 0); }

void all_home(void) {
  for (struct target *t = targets; t < targets + target_count; t++) if (t->mover != NOBODY) move(t, 0, 0);
  for (struct function *f = functions; f < functions + function_count; f++) if (f->mover != NOBODY) decode(f, f->all, 0);
}
