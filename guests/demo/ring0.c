// What the demo does in ring 0, once: interrupts, timer, keyboard, the display's mode. Then everything happens in ring 3 (main.c).
#include "demo.h"
#include "guest.h"

enum { MASTER = 0x20, SLAVE = 0xa0, FIRST_VECTOR = 0x20, VECTORS = 0x30, SYSTEM_CALL = 6 /* invalid opcode */, KEYBOARD_DATA = 0x60, KEYBOARD_COMMAND = 0x64 };
enum { KERNEL_CODE = 0x10, TASK_STATE = 0x40 };

extern uint64_t descriptor_table[];
void timer_interrupt(void), keyboard_interrupt(void), spurious_interrupt(void), system_call(void), fault_entry(void), start_timer(void);
__attribute__((noreturn)) void enter_ring3(void (*function)(void), void *stack);

struct gate { uint16_t offset_low, selector; uint8_t stack, type; uint16_t offset_middle; uint32_t offset_high, zero; };
static struct gate gates[VECTORS];
static struct { uint32_t zero; uint64_t stack[3]; uint64_t rest[11]; } __attribute__((packed)) task_state;
static uint8_t ring0_stack[8192] __attribute__((aligned(16)));
static uint8_t ring3_stack[65536] __attribute__((aligned(16)));

static void set_gate(unsigned vector, void (*handler)(void)) {
  uint64_t at = (uint64_t)(uintptr_t)handler;
  gates[vector] = (struct gate){ (uint16_t)at, KERNEL_CODE, 0, 0x8e, (uint16_t)(at >> 16), (uint32_t)(at >> 32), 0 };
}

__attribute__((noreturn)) void fault(const uint64_t *frame) {
  uint64_t address;
  __asm__ volatile("mov %%cr2, %0" : "=r"(address));
  print("demo: an exception; stack:");
  for (int i = 0; i < 6; i++) { print_char(' '); print_hex(frame[i]); }
  print(" address: ");
  print_hex(address);
  print("\n");
  for (;;) __asm__ volatile("cli; hlt");
}

static void set_up_interrupts(void) {
  for (unsigned vector = 0; vector < 32; vector++) set_gate(vector, fault_entry);
  for (unsigned vector = FIRST_VECTOR; vector < VECTORS; vector++) set_gate(vector, spurious_interrupt);
  set_gate(FIRST_VECTOR, timer_interrupt);
  set_gate(FIRST_VECTOR + 1, keyboard_interrupt);
  set_gate(SYSTEM_CALL, system_call);
  struct { uint16_t limit; uint64_t base; } __attribute__((packed)) pointer = { sizeof gates - 1, (uint64_t)(uintptr_t)gates };
  __asm__ volatile("lidt %0" : : "m"(pointer));

  uint64_t base = (uint64_t)(uintptr_t)&task_state;
  task_state.stack[0] = (uint64_t)(uintptr_t)(ring0_stack + sizeof ring0_stack);
  task_state.rest[10] = (uint64_t)sizeof task_state << 48; // no I/O permission map
  uint64_t *descriptor = &descriptor_table[TASK_STATE / 8];
  descriptor[0] = (sizeof task_state - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
  descriptor[1] = base >> 32;
  __asm__ volatile("ltr %w0" : : "r"(TASK_STATE));

  static const uint8_t words[2][4] = { { 0x11, FIRST_VECTOR, 4, 1 }, { 0x11, FIRST_VECTOR + 8, 2, 1 } };
  for (int i = 0; i < 4; i++) {
    out8(i == 0 ? MASTER : MASTER + 1, words[0][i]);
    out8(i == 0 ? SLAVE : SLAVE + 1, words[1][i]);
  }
  out8(MASTER + 1, 0xfc); // timer and keyboard
  out8(SLAVE + 1, 0xff);
}

static void wait_keyboard(uint8_t bit, uint8_t value) {
  for (int i = 0; i < 1000 && (in8(KEYBOARD_COMMAND) & bit) != value; i++) {}
}

static void set_up_keyboard(void) {
  wait_keyboard(2, 0);
  out8(KEYBOARD_COMMAND, 0xae); // keyboard on
  wait_keyboard(2, 0);
  out8(KEYBOARD_COMMAND, 0x60); // configuration: interrupt, translation to set 1
  wait_keyboard(2, 0);
  out8(KEYBOARD_DATA, 0x45);
  wait_keyboard(2, 0);
  out8(KEYBOARD_DATA, 0xf4); // scan
  wait_keyboard(1, 1);
  for (int i = 0; i < 16 && (in8(KEYBOARD_COMMAND) & 1); i++) in8(KEYBOARD_DATA);
}

void guest_main(uint32_t info) {
  struct display display;
  print("Vitrine framebuffer demo\n");
  if (!display_find(&display, WIDTH * HEIGHT * 4)) {
    print("demo: there is no display adapter (1234:1111) on PCI bus 0\n");
    machine_exit(1);
  }
  display_set_mode(&display, WIDTH, HEIGHT);
  framebuffer = (uint32_t *)(uintptr_t)display.framebuffer;
  starts_full_speed = find_word(command_line(info), "fps") != NULL;
  starts_paused = find_word(command_line(info), "idle") != NULL;
  set_up_interrupts();
  set_up_keyboard();
  start_timer();
  enter_ring3(demo, ring3_stack + sizeof ring3_stack - 8);
}
