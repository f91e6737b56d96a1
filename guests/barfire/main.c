// BARs under fire: four processors move BARs over each other's devices and switch decoding off and on, four read and write what they move.
// Every access is judged (accessors.c). Command line: `moves=COUNT` for each mover. It prints what it did and each error, "barfire done ERRORS",
// waits for a byte on the serial port so that the machine can be looked at, and ends by isa-debug-exit with 0, or 1 when there was an error.
#include "fire.h"

enum { LAPIC = 0xfee00000u, LAPIC_COMMAND = 0x300, LAPIC_TARGET = 0x310, INIT_OTHERS = 0xc4500, START_OTHERS = 0xc4600 };
enum { PROCESSOR_PAGE = 0x70000, KEPT = 12, DEFAULT_MOVES = 100 };

extern const uint8_t processor_start[], processor_end[], processor_table[];
extern volatile uint32_t processor_count;
extern const uint8_t descriptor_table_pointer[];

static volatile uint32_t fire, movers_left = MOVERS, accessors_left = ACCESSORS, errors, errors_lock;
static uint32_t moves = DEFAULT_MOVES;
static struct tally tallies[ACCESSORS];
static struct { const char *what, *where; uint64_t address, saw, wanted; } kept[KEPT];

void wrong(const char *what, const char *where, uint64_t address, uint64_t saw, uint64_t wanted) {
  take(&errors_lock);
  uint32_t n = errors++;
  if (n < KEPT) {
    kept[n].what = what;
    kept[n].where = where;
    kept[n].address = address;
    kept[n].saw = saw;
    kept[n].wanted = wanted;
  }
  let_go(&errors_lock);
}

static void take_part(uint32_t number) {
  if (number < MOVERS) {
    move_about(number, moves);
    add(&movers_left, (uint32_t)-1);
  } else {
    access_until_done(number - MOVERS, &movers_left, &tallies[number - MOVERS]);
    add(&accessors_left, (uint32_t)-1);
  }
}

void processor_main(uint32_t number) {
  while (!fire) __asm__ volatile("pause");
  if (number < PROCESSORS) take_part(number);
}

static void start_processors(void) {
  map_physical(LAPIC, 4096);
  for (size_t i = 0; i < (size_t)(processor_end - processor_start); i++) AT(uint8_t, PROCESSOR_PAGE + i) = processor_start[i];
  for (size_t i = 0; i < 6; i++) AT(uint8_t, PROCESSOR_PAGE + (processor_table - processor_start) + i) = descriptor_table_pointer[i];
  AT(uint32_t, LAPIC + LAPIC_TARGET) = 0;
  AT(uint32_t, LAPIC + LAPIC_COMMAND) = INIT_OTHERS;
  AT(uint32_t, LAPIC + LAPIC_COMMAND) = START_OTHERS | PROCESSOR_PAGE >> 12;
  while (processor_count < PROCESSORS) __asm__ volatile("pause");
}

static void print_count(const char *name, uint64_t value) {
  print(name);
  print_number(value);
}

static void report(void) {
  struct tally all = { 0, 0, 0, 0 };
  for (uint32_t i = 0; i < ACCESSORS; i++) {
    all.on += tallies[i].on;
    all.off += tallies[i].off;
    all.loose += tallies[i].loose;
    all.still += tallies[i].still;
  }
  print_count("barfire targets=", target_count);
  print_count(" moves=", (uint64_t)moves * MOVERS);
  print_count(" on=", all.on);
  print_count(" off=", all.off);
  print_count(" loose=", all.loose);
  print_count(" still=", all.still);
  for (uint32_t n = 0; n < errors && n < KEPT; n++) {
    print("\nbarfire wrong: ");
    print(kept[n].what);
    print(", ");
    print(kept[n].where);
    print(" at ");
    print_hex(kept[n].address);
    print(" saw ");
    print_hex(kept[n].saw);
    print(" wanted ");
    print_hex(kept[n].wanted);
  }
  print_count("\nbarfire done ", errors);
  print("\n");
}

void guest_main(uint32_t info) {
  const char *count = find_word(command_line(info), "moves=");
  if (count) moves = (uint32_t)parse_number(count);
  find_ecam();
  find_targets();
  start_processors();
  print("barfire begins\n");
  fire = 1;
  take_part(0);
  while (movers_left != 0 || accessors_left != 0) __asm__ volatile("pause");
  all_home();
  check_at_home();
  report();
  while ((in8(SERIAL_PORT + 5) & 1) == 0) {}
  machine_exit(errors ? 1 : 0);
}
