// Works the virtio source of entropy (1af4:1044) with a driver of its own, one split queue, while the BAR with its notifications moves: each request is
// answered by the notification at the place where it is by then, or, where the driver made it before a move and did not notify, by the move itself.
// Every fourth request the device is reset first, with one in flight. Command line: `requests=COUNT`; `linger`: make requests until told to stop.
//
// It prints "virtio begins", then "virtio done REQUESTS BYTES-THAT-STAYED-ZERO" and ends by isa-debug-exit with 0, or 1 when something was wrong.
#include "guest.h"

enum { RNG_ID = 0x10441af4, VENDOR_CAPABILITY = 9, COMMON_CFG = 1, NOTIFY_CFG = 2, BAR = 4, BAR_BYTES = 0x4000 };
enum { FEATURE_SELECT = 0x08, FEATURE = 0x0c, STATUS = 0x14, QUEUE_SIZE = 0x18, QUEUE_ENABLE = 0x1c, QUEUE_DESC = 0x20, QUEUE_DRIVER = 0x28, QUEUE_DEVICE = 0x30 };
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, SIZE = 4, WRITE = 2, BYTES = 16, PATIENCE = 2000000 };

static struct { uint64_t address; uint32_t length; uint16_t flags, next; } descriptors[SIZE] __attribute__((aligned(16)));
static struct { volatile uint16_t flags, index, ring[SIZE], event; } available;
static struct { volatile uint16_t flags, index; struct { uint32_t id, length; } ring[SIZE]; volatile uint16_t event; } used __attribute__((aligned(4)));
static volatile uint8_t buffer[BYTES];

static unsigned slot;
static uint64_t places[2], bar;
static uint32_t notify;

static __attribute__((noreturn)) void fail(const char *why, uint64_t value) {
  print("virtio wrong: ");
  print(why);
  print(" ");
  print_hex(value);
  print("\n");
  machine_exit(1);
}

/** Where a part of the BAR begins, by its capability. */
static uint32_t part(uint32_t type) {
  for (uint32_t at = pci_read(slot, 0x34) & 0xff; at != 0; at = (pci_read(slot, at) >> 8) & 0xff) {
    uint32_t head = pci_read(slot, at);
    if ((head & 0xff) == VENDOR_CAPABILITY && head >> 24 == type && (pci_read(slot, at + 4) & 0xff) == BAR) return pci_read(slot, at + 8);
  }
  fail("no capability", type);
}

static void move(unsigned place) {
  bar = places[place];
  pci_write(slot, 0x10 + 4 * BAR, (uint32_t)bar);
  pci_write(slot, 0x14 + 4 * BAR, (uint32_t)(bar >> 32));
}

#define COMMON(type, offset) AT(type, bar + part_common + (offset))
static uint32_t part_common;

static void begin(void) {
  COMMON(uint8_t, STATUS) = 0;
  for (uint32_t i = 0; COMMON(uint8_t, STATUS) != 0; i++) {
    if (COMMON(uint8_t, STATUS) == 0xff) fail("the device is gone, after request", i);
    if (i > PATIENCE) fail("no end of a reset", i);
  }
  COMMON(uint8_t, STATUS) = ACKNOWLEDGE;
  COMMON(uint8_t, STATUS) = ACKNOWLEDGE | DRIVER;
  COMMON(uint32_t, FEATURE_SELECT) = 1;
  COMMON(uint32_t, FEATURE) = 1; // version 1
  COMMON(uint8_t, STATUS) = ACKNOWLEDGE | DRIVER | FEATURES_OK;
  if ((COMMON(uint8_t, STATUS) & FEATURES_OK) == 0) fail("features refused", 0);
  available.index = used.index = 0;
  COMMON(uint16_t, 0x16) = 0; // queue 0
  COMMON(uint16_t, QUEUE_SIZE) = SIZE;
  const uint64_t areas[3] = { (uintptr_t)descriptors, (uintptr_t)&available, (uintptr_t)&used };
  for (uint32_t i = 0; i < 3; i++) {
    COMMON(uint32_t, QUEUE_DESC + 8 * i) = (uint32_t)areas[i];
    COMMON(uint32_t, QUEUE_DESC + 8 * i + 4) = (uint32_t)(areas[i] >> 32);
  }
  COMMON(uint16_t, QUEUE_ENABLE) = 1;
  COMMON(uint8_t, STATUS) = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
}

static void make_available(void) {
  for (uint32_t i = 0; i < BYTES; i++) buffer[i] = 0;
  descriptors[0].address = (uintptr_t)buffer;
  descriptors[0].length = BYTES;
  descriptors[0].flags = WRITE;
  available.ring[available.index % SIZE] = 0;
  __asm__ volatile("mfence" : : : "memory");
  available.index++;
  __asm__ volatile("mfence" : : : "memory");
}

static void wait_used(const char *how) {
  for (uint32_t i = 0; used.index != available.index; i++) {
    if (i % 4096 == 4095 && COMMON(uint8_t, STATUS) == 0xff) fail("the device is gone, after", i);
    if (i > PATIENCE) fail(how, available.index);
  }
  if (used.ring[(uint16_t)(used.index - 1) % SIZE].length != BYTES) fail("length", used.ring[(uint16_t)(used.index - 1) % SIZE].length);
}

void guest_main(uint32_t info) {
  const char *line = command_line(info), *count = find_word(line, "requests=");
  uint64_t requests = count ? parse_number(count) : 100, zeros = 0, done = 0;
  int linger = find_word(line, "linger") != NULL;
  int found = pci_find(RNG_ID);
  if (found < 0) fail("no device", 0);
  slot = (unsigned)found;
  pci_write(slot, 4, pci_read(slot, 4) | 6);
  places[0] = bar = pci_bar(slot, BAR);
  places[1] = places[0] ^ 0x100000; // nobody's: the windows are large and begin on whole MiB
  if (!map_physical(places[0], BAR_BYTES) || !map_physical(places[1], BAR_BYTES)) fail("cannot map", places[0]);
  part_common = part(COMMON_CFG);
  notify = part(NOTIFY_CFG);
  print("virtio begins\n");
  begin();
  for (uint64_t i = 0; linger || i < requests; i++) {
    if (i % 4 == 3) {
      make_available();
      AT(uint16_t, bar + notify) = 0;
      begin(); // what was in flight is over, whether answered or not
    }
    make_available();
    if (i % 2 == 0) {
      AT(uint16_t, bar + notify) = 0;
      wait_used("no answer to a notification, at");
      move(i % 4 / 2);
    } else {
      move((i + 1) % 4 / 2);
      wait_used("no answer after a move, at");
    }
    for (uint32_t k = 0; k < BYTES; k++) zeros += buffer[k] == 0;
    done++;
    if (linger && (in8(SERIAL_PORT + 5) & 1) != 0) break;
  }
  print("virtio done ");
  print_number(done);
  print(" ");
  print_number(zeros);
  print("\n");
  machine_exit(zeros * 4 > done * BYTES ? 1 : 0);
}
