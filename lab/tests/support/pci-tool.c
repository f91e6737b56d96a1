// What busybox lacks for looking at PCI in a Linux guest: whole accesses to configuration space and to a BAR's resource file, and programs that
// draw and move BARs for as long as they are told. Static and without a library, so that any C compiler makes it.
//
//   config FILE OFFSET WIDTH [VALUE]        a sysfs "config" file, one access of WIDTH bytes
//   ports PLACE OFFSET WIDTH [VALUE]        the same by CF8 and CFC; PLACE is slot << 3 | function
//   memory FILE OFFSET [VALUE]              4 bytes of what can be mapped: a sysfs "resourceN" file, /dev/mem
//   port PORT [VALUE]                       4 ports
//   paint FILE OFFSET PITCH ROWS COLUMNS SEED ROUNDS COUNTER
//                                           draws the same picture ROUNDS times, 0 for ever, and says in the file COUNTER how often it has;
//                                           begins again when FILE is gone for a while, or is no longer what it was
//   toggle FILE COUNT                       switches memory decode off and on, COUNT times, by FILE, a "config" file
//   chase FILE OFFSET PITCH ROWS COLUMNS SEED COUNT ADDRESS…
//                                           moves BAR 0 by FILE, a "config" file, to each address in turn, COUNT times, and back; looks whether
//                                           the picture of `paint` came along (and draws a row of it anew), and the last address is dead
// What is read is printed as 0x…; toggle and chase print "COUNT done, COUNT wrong". Exit code 0, or 1 when something did not work.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, MMAP = 9, MUNMAP = 11, PREAD = 17, PWRITE = 18, FORK = 57, EXIT = 60, WAIT4 = 61, IOPL = 172, NANOSLEEP = 35 };
enum { READ_WRITE = 2, CREATE = 0100, SYNC = 010000 | 04000000, PROT_BOTH = 3, MAP_SHARED = 1, PAGE = 4096 };
enum { COMMAND = 4, COMMAND_MEMORY = 2, BAR0 = 0x10 };

static long call(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
}

static void __attribute__((noreturn)) leave(int code) {
  for (;;) call(EXIT, code, 0, 0, 0, 0, 0);
}

static int same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

static u64 number(const char *text) {
  u64 value = 0, base = 10;
  if (text[0] == '0' && text[1] == 'x') base = 16, text += 2;
  for (; *text; text++) value = value * base + (u64)(*text <= '9' ? *text - '0' : (*text | 32) - 'a' + 10);
  return value;
}

static void say(const char *text) {
  u64 length = 0;
  while (text[length]) length++;
  call(WRITE, 1, (long)text, (long)length, 0, 0, 0);
}

static char *digits(char *end, u64 value, u64 base) {
  do *--end = "0123456789abcdef"[value % base]; while ((value /= base) != 0);
  return end;
}

static void say_number(u64 value, u64 base) {
  char text[24];
  text[23] = 0;
  if (base == 16) say("0x");
  say(digits(text + 23, value, base));
}

static int finish(u32 done, u32 wrong) {
  say_number(done, 10);
  say(" done, ");
  say_number(wrong, 10);
  say(" wrong\n");
  return wrong != 0;
}

static long open_file(const char *path) { return call(OPEN, (long)path, READ_WRITE | SYNC, 0, 0, 0, 0); }

/** Maps the pages of [offset, offset + size) of a file; NULL when that is not to be had. */
static volatile u8 *map(const char *path, u64 offset, u64 size) {
  long file = open_file(path);
  if (file < 0) return 0;
  u64 before = offset % PAGE;
  long at = call(MMAP, 0, (long)(before + size + PAGE - 1) & -PAGE, PROT_BOTH, MAP_SHARED, file, (long)(offset - before));
  call(CLOSE, file, 0, 0, 0, 0, 0);
  return at < 0 && at > -4096 ? 0 : (volatile u8 *)at + before;
}

static u32 get_config(long file, u32 offset, u32 width) {
  u32 value = 0;
  if (call(PREAD, file, (long)&value, width, offset, 0, 0) != (long)width) leave(1);
  return value;
}
static void set_config(long file, u32 offset, u32 width, u32 value) {
  if (call(PWRITE, file, (long)&value, width, offset, 0, 0) != (long)width) leave(1);
}

static int config(int count, char **words) {
  long file = open_file(words[0]);
  u32 offset = (u32)number(words[1]), width = (u32)number(words[2]);
  if (file < 0) return 1;
  if (count > 3) set_config(file, offset, width, (u32)number(words[3]));
  else say_number(get_config(file, offset, width), 16), say("\n");
  return 0;
}

static u32 in(u16 port, u32 width) {
  u32 value = 0;
  if (width == 1) __asm__ volatile("inb %w1, %b0" : "+a"(value) : "Nd"(port));
  else if (width == 2) __asm__ volatile("inw %w1, %w0" : "+a"(value) : "Nd"(port));
  else __asm__ volatile("inl %w1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static void out(u16 port, u32 width, u32 value) {
  if (width == 1) __asm__ volatile("outb %b0, %w1" : : "a"(value), "Nd"(port));
  else if (width == 2) __asm__ volatile("outw %w0, %w1" : : "a"(value), "Nd"(port));
  else __asm__ volatile("outl %0, %w1" : : "a"(value), "Nd"(port));
}

static int by_ports(int count, char **words) {
  u32 offset = (u32)number(words[1]), width = (u32)number(words[2]);
  if (call(IOPL, 3, 0, 0, 0, 0, 0) < 0) return 1;
  out(0xcf8, 4, 0x80000000u | (u32)number(words[0]) << 8 | (offset & 0xfc));
  if (count > 3) out((u16)(0xcfc + (offset & 3)), width, (u32)number(words[3]));
  else say_number(in((u16)(0xcfc + (offset & 3)), width), 16), say("\n");
  return 0;
}

static int memory(int count, char **words) {
  volatile u32 *at = (volatile u32 *)map(words[0], number(words[1]), 4);
  if (!at) return 1;
  if (count > 2) *at = (u32)number(words[2]);
  else say_number(*at, 16), say("\n");
  return 0;
}

static int port(int count, char **words) {
  if (call(IOPL, 3, 0, 0, 0, 0, 0) < 0) return 1;
  if (count > 1) out((u16)number(words[0]), 4, (u32)number(words[1]));
  else say_number(in((u16)number(words[0]), 4), 16), say("\n");
  return 0;
}

/** What is painted at a place: never black, never white, another colour beside it. */
static u32 colour(u32 x, u32 y, u32 seed) { return 0x400000 | ((x * 5 + seed * 37) & 0xff) << 8 | ((y * 3 + seed * 101) & 0xff); }

static void paint_row(volatile u8 *row, u32 y, u32 columns, u32 seed) {
  for (u32 x = 0; x < columns; x += 2) *(volatile u64 *)(row + 4 * x) = colour(x, y, seed) | (u64)colour(x + 1, y, seed) << 32;
}

static void note(const char *path, u64 value) {
  char text[24];
  char *from = digits(text + 24, value, 10);
  long file = call(OPEN, (long)path, READ_WRITE | CREATE, 0644, 0, 0, 0);
  call(PWRITE, file, (long)from, text + 24 - from, 0, 0, 0);
  call(CLOSE, file, 0, 0, 0, 0, 0);
}

static void rest(long milliseconds) {
  long time[2] = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
  call(NANOSLEEP, (long)time, 0, 0, 0, 0, 0);
}

static int paint(char **words) {
  u32 pitch = (u32)number(words[2]), rows = (u32)number(words[3]), columns = (u32)number(words[4]), seed = (u32)number(words[5]), rounds = (u32)number(words[6]);
  // A child draws, which dies when the file's memory is taken from it.
  u64 *shared = (u64 *)call(MMAP, 0, PAGE, PROT_BOTH, MAP_SHARED | 0x20, -1, 0);
  while (rounds == 0 || *shared < rounds) {
    long child = call(FORK, 0, 0, 0, 0, 0, 0);
    if (child == 0) {
      volatile u8 *at = map(words[0], number(words[1]), (u64)pitch * rows);
      if (!at) leave(1);
      while (rounds == 0 || *shared < rounds) {
        for (u32 y = 0; y < rows; y++) paint_row(at + (u64)y * pitch, y, columns, seed);
        note(words[7], ++*shared);
      }
      leave(0);
    }
    int status = 0;
    call(WAIT4, child, (long)&status, 0, 0, 0, 0);
    if (status != 0) rest(20);
  }
  return 0;
}

static int toggle(char **words) {
  long file = open_file(words[0]);
  u32 count = (u32)number(words[1]), wrong = 0;
  if (file < 0) return 1;
  u32 on = get_config(file, COMMAND, 2) | COMMAND_MEMORY;
  for (u32 done = 0; done < count; done++) {
    set_config(file, COMMAND, 2, on & ~(u32)COMMAND_MEMORY);
    wrong += get_config(file, COMMAND, 2) != (on & ~(u32)COMMAND_MEMORY);
    set_config(file, COMMAND, 2, on);
    wrong += get_config(file, COMMAND, 2) != on;
  }
  return finish(count, wrong);
}

static int chase(int words_count, char **words) {
  long file = open_file(words[0]);
  u64 offset = number(words[1]), place[16];
  u32 pitch = (u32)number(words[2]), rows = (u32)number(words[3]), columns = (u32)number(words[4]), seed = (u32)number(words[5]), count = (u32)number(words[6]);
  volatile u8 *picture[16], *before = 0;
  u32 places = (u32)words_count - 7;
  if (file < 0 || places < 2 || places > 16) return 1;
  for (u32 i = 0; i < places; i++) {
    place[i] = number(words[7 + i]);
    if (!(picture[i] = map("/dev/mem", place[i] + offset, (u64)pitch * rows))) return 1;
  }
  u32 home = get_config(file, BAR0, 4), wrong = 0;
  for (u32 done = 0; done < count; done++) {
    volatile u8 *at = picture[done % places];
    u32 x = done % columns;
    set_config(file, BAR0, 4, (u32)place[done % places] | (home & 15));
    for (u32 y = done % 8; y < rows; y += 8) wrong += *(volatile u32 *)(at + (u64)y * pitch + 4 * x) != colour(x, y, seed);
    paint_row(at + (u64)(done % rows) * pitch, done % rows, columns, seed);
    wrong += before && *(volatile u32 *)before != 0xffffffffu;
    before = at;
  }
  set_config(file, BAR0, 4, home);
  return finish(count, wrong);
}

static int tool(int count, char **words) {
  if (count >= 4 && same(words[0], "config")) return config(count - 1, words + 1);
  if (count >= 4 && same(words[0], "ports")) return by_ports(count - 1, words + 1);
  if (count >= 3 && same(words[0], "memory")) return memory(count - 1, words + 1);
  if (count >= 2 && same(words[0], "port")) return port(count - 1, words + 1);
  if (count == 9 && same(words[0], "paint")) return paint(words + 1);
  if (count == 3 && same(words[0], "toggle")) return toggle(words + 1);
  if (count >= 10 && same(words[0], "chase")) return chase(count - 1, words + 1);
  return 1;
}

/** The stack as the kernel leaves it: the number of words, then the words. */
__attribute__((used)) static void begin(u64 *stack) { leave(tool((int)stack[0] - 1, (char **)stack + 2)); }
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
