// What movers and accessors know of each other. A target is a range of addresses that moves: a BAR, or a range of the chipset's that a register
// places. Whoever changes where it answers says so before and after. So an accessor knows afterwards whether its access fell into a time in
// which the target certainly answered at a known place, or certainly did not, and is strict about it; else it only asks that what it read is
// something that may be there.
#pragma once
#include "guest.h"

enum { PROCESSORS = 8, MOVERS = 4, ACCESSORS = PROCESSORS - MOVERS };
enum { MAX_TARGETS = 32, MAX_FUNCTIONS = 8, MAX_PLACES = 6, MAX_PROBES = 6, NOBODY = 0xff };
enum { COMMAND_IO = 1, COMMAND_MEMORY = 2, NOTHING = 0xffffffff };

/** A PCI function whose decode bits change, or a range of the chipset's. */
struct function {
  uint8_t slot;
  /** The mover that switches its decode bits, or NOBODY. */
  uint8_t mover;
  /** Changes that have begun and that have ended, by all movers. */
  volatile uint32_t begun, ended;
  /** The decode bits that it has, and those that are on. */
  uint32_t all;
  volatile uint32_t decode;

  // What a test device must have counted at the end.

  /** Writes of its configuration space. */
  volatile uint32_t config_writes;
  /** Reads of its counted areas that gave what they give. */
  volatile uint32_t counted_reads;
  /** Writes to its doorbell that certainly arrived, and those that may have. */
  volatile uint32_t rung, maybe_rung;
};

enum probe_kind {
  /** Is only read. */
  LOOKED_AT,
  /** Is written by one accessor, others only read it. */
  CELL,
  /** Is only written. */
  DOORBELL,
};

/** Four bytes in a target that accessors look at. */
struct probe {
  uint32_t offset;
  uint8_t kind;
  /** A cell's: bits 16 to 23 of what is written there, above the number of the write; and who writes it. */
  uint8_t tag, accessor;
};

enum { CELL_NUMBER = 0xffff, FIRST_TAG = 0x80 };

struct target {
  const char *name;
  struct function *function;
  uint8_t reg, is64, is_io;
  /** The mover that moves it, or NOBODY. */
  uint8_t mover;
  /** What the register has beside the address. */
  uint32_t fixed;
  uint64_t size;
  /** Where it may be; the first is home. */
  uint32_t places;
  uint64_t place[MAX_PLACES];
  /** By place and probe: the others, a bit for each, that may be there at some time. */
  uint32_t others[MAX_PLACES][MAX_PROBES];
  /** Where it is and where it was before, indices of `place`. */
  volatile uint32_t now, before;
  uint32_t probes;
  struct probe probe[MAX_PROBES];
  /** Whether the target may give `value` at `offset`, where no cell is. `sure`: it and its function have stood still meanwhile. */
  int (*may)(const struct target *t, uint32_t offset, uint32_t value, int sure);
};

extern struct target targets[MAX_TARGETS];
extern uint32_t target_count;
extern struct function functions[MAX_FUNCTIONS];
extern uint32_t function_count;

/** What an accessor did: strictly judged accesses to what answered and to what did not, loosely judged ones, and those to what never moves. */
struct tally { uint32_t on, off, loose, still; };

// main.c

/** Whether the processor, or whoever acts for it, knows instructions that KVM cannot act for: they must find memory, not an exit. */
extern int native;
/** Counts an error, and keeps the first few for the report. */
void wrong(const char *what, const char *where, uint64_t address, uint64_t saw, uint64_t wanted);

// config.c

void find_ecam(void);
uint32_t config_read(unsigned slot, unsigned reg, int by_ports);
void config_write(unsigned slot, unsigned reg, uint32_t value, int by_ports);
void config_write16(unsigned slot, unsigned reg, uint16_t value, int by_ports);

// targets.c

void find_targets(void);
struct function *add_function(unsigned slot, uint8_t mover);
/** @param more places beside where it is now; without them it never moves */
struct target *add_target(const char *name, struct function *f, unsigned reg, uint64_t size, const uint64_t *more, uint32_t count);
void add_probe(struct target *t, uint32_t offset);
void add_cell(struct target *t, uint32_t offset);
void add_doorbell(struct target *t, uint32_t offset);
/** What is painted in memory: a value of its own for each offset. */
uint32_t pattern(uint32_t offset);
/** The video memory, or NULL; its picture has a trail from TRAIL on, of TRAIL_DOTS pixels at most. */
extern struct target *video;
enum { TRAIL = 0xa000, TRAIL_DOTS = 0x1400, DOT = 0x400000 };
/** Whether `t` may give `value`, its cells included. */
int may_give(const struct target *t, uint32_t offset, uint32_t value, int sure);
/** Whether a read of probe q where `t` has it at place p may give `value`, whoever is there, or nobody. */
int legal(const struct target *t, uint32_t p, uint32_t q, uint32_t value);

// testdevice.c

void find_test_devices(void);
/** Notes a value that was read from memory, if it says that a counted area gave it. */
void note_counted(uint32_t value);
/** A target of less than a page that moves, or NULL. */
struct target *small_target(void);
/** Places of video memory and of a small target at which the small one is in the picture; and what is beside it there. */
enum { COVERED_PLACE = 1, COVERED_PLACE_SMALL = 3, SMALL_IN_PICTURE = 0x4c00, BESIDE_SMALL = 0x4800, BESIDE_DOTS = 16 };
/** An address in mapped memory that stays where it is while others land beside it, and what is painted there; 0 for none. */
uint64_t still_memory(uint32_t *value);
void check_test_devices(void);

// movers.c

void move_about(uint32_t mover, uint32_t count);
void all_home(void);
/** Which target was moved last: the likeliest to show a mistake. */
extern volatile uint32_t last_moved;
/** Moves one target, in peace. */
void put(struct target *t, uint32_t place);

// accessors.c

/** How many dots of the trail are there. */
extern volatile uint32_t trail;
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
