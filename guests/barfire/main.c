// BARs under fire: four processors move BARs over each other's devices and switch decoding off and on, four read and write what they move.
// Every access is judged (accessors.c). Command line: `moves=COUNT` for each mover; `native` for instructions that KVM cannot act for.
//
// It prints what it did and each error, and waits for a byte on the serial port wherever somebody may want to look at the machine: "barfire
// begins", "barfire covered" (a page of the picture is partly another device's), "barfire painted" (and was drawn to), "barfire done ERRORS"
// (all is as it was at first). It ends by isa-debug-exit with 0, or 1 when there was an error.
#include "fire.h"

enum { LAPIC = 0xfee00000u, LAPIC_COMMAND = 0x300, LAPIC_TARGET = 0x310, INIT_OTHERS = 0xc4500, START_OTHERS = 0xc4600 };
enum { PROCESSOR_PAGE = 0x70000, KEPT = 12, DEFAULT_MOVES = 100 };

extern const uint8_t processor_start[], processor_end[], processor_table[];
extern volatile uint32_t processor_count;
extern const uint8_t descriptor_table_pointer[];

static volatile uint32_t fire, movers_left = MOVERS, accessors_left = ACCESSORS, errors, errors_lock;
static uint32_t moves = DEFAULT_MOVES;
int native;
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

static void wait_for_byte(const char *say) {
  print(say);
  while ((in8(SERIAL_PORT + 5) & 1) == 0) {}
  in8(SERIAL_PORT);
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
  print_count(" trail=", trail);
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

/** Draws where video memory is not mapped, because a few bytes of the same page are another's. */
static void draw_beside(struct target *small) {
  if (video == NULL || small == NULL) return;
  put(video, COVERED_PLACE);
  put(small, COVERED_PLACE_SMALL);
  wait_for_byte("barfire covered\n");
  for (uint32_t dot = 0; dot < BESIDE_DOTS; dot++) AT(uint32_t, video->place[COVERED_PLACE] + BESIDE_SMALL + 4 * dot) = DOT + dot;
  wait_for_byte("barfire painted\n");
  all_home();
}

void guest_main(uint32_t info) {
  const char *count = find_word(command_line(info), "moves=");
  if (count) moves = (uint32_t)parse_number(count);
  native = find_word(command_line(info), "native") != NULL;
  find_ecam();
  find_targets();
  start_processors();
  wait_for_byte("barfire begins\n");
  fire = 1;
  take_part(0);
  while (movers_left != 0 || accessors_left != 0) __asm__ volatile("pause");
  all_home();
  check_test_devices();
  check_at_home();
  draw_beside(small_target());
  report();
  wait_for_byte("");
  machine_exit(errors ? 1 : 0);
}
