// What movers and accessors know of each other. A target is a range of addresses that moves: a BAR, or a range of the chipset's that a register
// places. Whoever changes where it answers says so before and after. So an accessor knows afterwards whether its access fell into a time in
// which the target certainly answered at a known place, or certainly did not, and is strict about it; else it only asks that what it read is
// something that may be there.
#pragma once
#include "guest.h"

enum { PROCESSORS = 8, MOVERS = 4, ACCESSORS = PROCESSORS - MOVERS };
enum { MAX_TARGETS = 24, MAX_FUNCTIONS = 16, MAX_PLACES = 6, MAX_PROBES = 4 };
enum { COMMAND_IO = 1, COMMAND_MEMORY = 2, NOTHING = 0xffffffff };

/** A PCI function whose decode bits change, or a range of the chipset's. */
struct function {
  uint8_t slot;
  /** The mover that switches its decode bits, -1 for nobody. */
  int8_t mover;
  /** Changes that have begun and that have ended, by all movers. */
  volatile uint32_t begun, ended;
  /** The decode bits that it has, and those that are on. */
  uint32_t all;
  volatile uint32_t decode;
};

/** Four bytes in a target that accessors look at. A cell is written by one of them, all others only read it. */
struct probe {
  uint32_t offset;
  /** 1 to 254 for a cell: bits 16 to 23 of what is written there, above the number of the write. */
  uint8_t tag;
  uint8_t accessor;
};

enum { CELL_NUMBER = 0xffff };

struct target {
  const char *name;
  struct function *function;
  uint8_t reg, is64, is_io;
  uint8_t mover;
  /** What the register has beside the address. */
  uint32_t fixed;
  uint64_t size;
  /** Where it may be; the first is home. */
  uint32_t places;
  uint64_t place[MAX_PLACES];
  /** By place, a bit for each probe: no other target may ever be there. */
  uint8_t exclusive[MAX_PLACES];
  /** Where it is, an index of `place`. */
  volatile uint32_t now;
  uint32_t probes;
  struct probe probe[MAX_PROBES];
  /** Whether the target may give `value` at `offset`. */
  int (*may)(const struct target *t, uint32_t offset, uint32_t value);
};

extern struct target targets[MAX_TARGETS];
extern uint32_t target_count;
extern struct function functions[MAX_FUNCTIONS];
extern uint32_t function_count;

/** What an accessor did: strictly judged accesses to what answered and to what did not, loosely judged ones, and those to what never moves. */
struct tally { uint32_t on, off, loose, still; };

// main.c

/** Counts an error, and keeps the first few for the report. */
void wrong(const char *what, const char *where, uint64_t address, uint64_t saw, uint64_t wanted);

// config.c

void find_ecam(void);
uint32_t config_read(unsigned slot, unsigned reg, int by_ports);
void config_write(unsigned slot, unsigned reg, uint32_t value, int by_ports);
void config_write16(unsigned slot, unsigned reg, uint16_t value, int by_ports);

// targets.c

void find_targets(void);
/** Whether a read of 4 bytes at `address` may give `value`, whoever is there, or nobody. */
int legal(int is_io, uint64_t address, uint32_t value);

// movers.c

void move_about(uint32_t mover, uint32_t count);
void all_home(void);

// accessors.c

void access_until_done(uint32_t accessor, volatile uint32_t *movers_left, struct tally *tally);
void check_at_home(void);

static inline uint32_t read_at(const struct target *t, uint64_t address) { return t->is_io ? in32((uint16_t)address) : AT(uint32_t, address); }
static inline void write_at(const struct target *t, uint64_t address, uint32_t value) {
  if (t->is_io) out32((uint16_t)address, value);
  else AT(uint32_t, address) = value;
}
static inline uint32_t decode_bit(const struct target *t) { return t->is_io ? COMMAND_IO : COMMAND_MEMORY; }

static inline void take(volatile uint32_t *lock) {
  while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE)) __asm__ volatile("pause");
}
static inline void let_go(volatile uint32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }
static inline void add(volatile uint32_t *word, uint32_t value) { __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST); }

static inline uint32_t random_below(uint32_t *state, uint32_t limit) {
  uint32_t x = *state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  *state = x;
  return (uint32_t)((uint64_t)x * limit >> 32);
}
