// Four processors that read and write wherever a target is, was, or may come next, and know what every access must have done.
//
// A cell is written by one accessor only, with a number that steps. Each write is known to have arrived, known to have gone nowhere, or
// either; so what a read may give is the last number known to have arrived, or one written since that may have.
#include "fire.h"

enum { RING = 64, SERIAL_SCRATCH = SERIAL_PORT + 7, MCH_SKPD = 0xdc };

struct cell {
  uint16_t number, arrived;
  /** By number: whether that write may have arrived. */
  uint8_t maybe[RING];
};
static struct cell cells[MAX_TARGETS][MAX_PROBES];

static void forget(struct cell *c) {
  for (uint32_t i = 0; i < RING; i++) c->maybe[i] = 0;
}

/** Judges what was read of an accessor's own cell while it certainly answered. */
static void judge(const struct target *t, uint32_t q, struct cell *c, uint64_t address, uint32_t value) {
  uint16_t number = value & CELL_NUMBER, since = (uint16_t)(number - c->arrived);
  if (value >> 16 != t->probe[q].tag) wrong("cell's tag", t->name, address, value, t->probe[q].tag);
  else if (since != 0 && (since > (uint16_t)(c->number - c->arrived) || !c->maybe[number % RING])) wrong("cell", t->name, address, value, c->arrived);
  c->arrived = number;
  forget(c);
}

enum place_kind { NOW, BEFORE, SOMEWHERE };

static void access(struct target *t, uint32_t q, enum place_kind where, int write, uint32_t accessor, uint32_t somewhere, struct tally *tally) {
  struct function *f = t->function;
  struct cell *c = &cells[t - targets][q];
  const struct probe *probe = &t->probe[q];
  int own = probe->kind == CELL && probe->accessor == accessor, ring = probe->kind == DOORBELL;

  uint32_t ended = f->ended, begun = f->begun; // in this order: if they are equal, no change was under way when the first was read
  int on = (f->decode & decode_bit(t)) != 0;
  uint32_t now = t->now, place = where == NOW ? now : where == BEFORE ? t->before : somewhere;
  uint64_t address = t->place[place] + probe->offset;
  int alone = t->others[place][q] == 0;
  // No write where it could reach another target, or when too many are in doubt.
  if (ring && !alone) return;
  write = write && own && alone && (uint16_t)(c->number - c->arrived) < RING - 1;
  uint32_t value = 0;
  if (write) write_at(t, address, (uint32_t)probe->tag << 16 | (uint16_t)(c->number + 1));
  else if (ring) write_at(t, address, accessor);
  else value = read_at(t, address);
  int sure = ended == begun && f->begun == begun && alone;
  int there = on && place == now;

  if (!sure) tally->loose++;
  else if (there) tally->on++;
  else tally->off++;
  if (write) {
    c->number++;
    c->maybe[c->number % RING] = !sure;
    if (sure && there) {
      c->arrived = c->number;
      forget(c);
    }
  } else if (ring) {
    if (!sure) add(&f->maybe_rung, 1);
    else if (there) add(&f->rung, 1);
  } else if (!sure) {
    if (!legal(t, place, q, value)) wrong("nobody's value", t->name, address, value, NOTHING);
  } else if (!there) {
    if (value != NOTHING) wrong("answered where nothing is", t->name, address, value, NOTHING);
  } else if (own) judge(t, q, c, address, value);
  else if (!may_give(t, probe->offset, value, 1)) wrong("not its value", t->name, address, value, probe->offset);
  if (!t->is_io && !write && !ring) note_counted(value);
}

volatile uint32_t trail;

/** The next dot of the trail, which nobody touches again once it is certainly there: whoever watches the screen must have seen it. */
static void draw(struct tally *tally) {
  struct function *f = video->function;
  uint32_t ended = f->ended, begun = f->begun, now = video->now;
  if (ended != begun || !(f->decode & COMMAND_MEMORY) || trail == TRAIL_DOTS) return;
  write_at(video, video->place[now] + TRAIL + 4 * trail, DOT + trail);
  if (f->begun != begun) return;
  trail++;
  tally->on++;
}

/** What never moves and never goes: no access to it may be lost, by whichever way. */
static void access_still(uint32_t accessor, uint32_t number, struct tally *tally) {
  if (accessor == 0) {
    config_write(0, MCH_SKPD, number, number & 1);
    uint32_t saw = config_read(0, MCH_SKPD, number & 2);
    if (saw != number) wrong("still", "host bridge's scratchpad", MCH_SKPD, saw, number);
  } else if (accessor == 1) {
    out8(SERIAL_SCRATCH, (uint8_t)number);
    uint8_t saw = in8(SERIAL_SCRATCH);
    if (saw != (uint8_t)number) wrong("still", "serial port's scratch register", SERIAL_SCRATCH, saw, number & 0xff);
  }
  tally->still += 2;
  uint32_t wanted, ones;
  uint64_t address = still_memory(&wanted);
  if (address == 0 || !native) return;
  // KVM cannot act for this one: if the memory's slot were ever gone, the machine would end.
  __asm__ volatile("popcntl (%1), %0" : "=r"(ones) : "r"(address) : "memory");
  for (; wanted != 0; wanted &= wanted - 1) ones--;
  if (ones != 0) wrong("still", "test device's memory", address, ones, 0);
}

void access_until_done(uint32_t accessor, volatile uint32_t *movers_left, struct tally *tally) {
  uint32_t random = 0x9876543 * (accessor + 1);
  for (uint32_t number = 1; *movers_left != 0; number++) {
    struct target *t = &targets[random_below(&random, 2) ? last_moved : random_below(&random, target_count)];
    uint32_t q = random_below(&random, t->probes), somewhere = random_below(&random, t->places);
    access(t, q, (enum place_kind)random_below(&random, 3), random_below(&random, 2), accessor, somewhere, tally);
    if (t->probe[q].kind == CELL && t->probe[q].accessor == accessor) { // what did that do?
      access(t, q, BEFORE, 1, accessor, 0, tally);
      access(t, q, NOW, 0, accessor, 0, tally);
    }
    if (number % 4 == 0) access_still(accessor, number, tally);
    if (number % 4 == 1 && accessor == 3 && video) draw(tally);
  }
}

void check_at_home(void) {
  for (struct target *t = targets; t < targets + target_count; t++) {
    for (uint32_t q = 0; q < t->probes; q++) {
      uint64_t address = t->place[0] + t->probe[q].offset;
      if (t->probe[q].kind == DOORBELL) continue;
      uint32_t value = read_at(t, address);
      if (t->probe[q].kind == CELL) judge(t, q, &cells[t - targets][q], address, value);
      else if (!may_give(t, t->probe[q].offset, value, 1)) wrong("at home", t->name, address, value, t->probe[q].offset);
      for (uint32_t p = 1; p < t->places; p++) {
        uint64_t left = t->place[p] + t->probe[q].offset;
        value = read_at(t, left);
        if (t->others[p][q] == 0 ? value != NOTHING : !legal(t, p, q, value)) wrong("left behind", t->name, left, value, NOTHING);
      }
    }
  }
}
