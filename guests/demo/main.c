// "Framebuffer demo", ring 3: the loop, the keyboard and what they change. The command line may say `fps` (begin at full speed) or `idle`
// (halt after the first picture, until a key is pressed).
//   arrows   change the drift of the waves       space   pause: the processor halts, nothing is drawn
//   F        full speed: every picture at once   Q, Esc  power off
// Whatever is typed stands in the line at the bottom.
#include "demo.h"

enum { CALL_WAIT, CALL_POWER_OFF, CALL_STOP_TIMER, CALL_START_TIMER };
enum { TICKS_PER_SECOND = 60, TYPED_MAX = 60, STATUS_UNIT = 38, STATUS_WEIGHT = 13, TITLE_UNIT = 19 * 16, TITLE_WEIGHT = 11 * 16 };
enum { SCAN_ESCAPE = 0x01, SCAN_BACKSPACE = 0x0e, SCAN_ENTER = 0x1c, SCAN_LEFT_SHIFT = 0x2a, SCAN_RIGHT_SHIFT = 0x36, SCAN_SPACE = 0x39, SCAN_UP = 0x48, SCAN_LEFT = 0x4b, SCAN_RIGHT = 0x4d, SCAN_DOWN = 0x50, SCAN_EXTENDED = 0xe0, SCAN_RELEASED = 0x80 };

uint32_t *framebuffer;
int starts_full_speed, starts_paused;

/** Set 1, scan codes 0x02 to 0x39, plain and with shift. */
static const char plain[] = "1234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
static const char shifted[] = "!@#$%^&*()_+\b\tQWERTYUIOP{}\n\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";

static uint8_t title_pixels[1024 * 200], status_pixels[1280 * 26], typed_pixels[1280 * 26];
static struct scene scene = { .title = { .pixels = title_pixels }, .status = { .pixels = status_pixels }, .typed = { .pixels = typed_pixels } };

static uint32_t keys_read;
static int shift, extended, paused, full_speed;
static int speed_x = 1, speed_y;
static char typed[TYPED_MAX + 1], last_key[8] = "none";
static int typed_length;
static uint32_t frames, frames_before, ticks_before, rate;

static void call(uint32_t number, uint32_t argument) { __asm__ volatile("ud2" : : "a"(number), "D"(argument) : "memory", "cc"); }

static char *append(char *at, const char *text) {
  while (*text) *at++ = *text++;
  *at = 0;
  return at;
}
static char *append_number(char *at, uint32_t value) {
  char digits[11];
  int n = 10;
  digits[10] = 0;
  do digits[--n] = (char)('0' + value % 10); while ((value /= 10) != 0);
  return append(at, digits + n);
}

static void write_typed(void) {
  char line[TYPED_MAX + 16];
  append(append(append(line, "> "), typed), "_");
  text_render(&scene.typed, sizeof typed_pixels, line, STATUS_UNIT, STATUS_WEIGHT);
}

static void write_status(void) {
  char line[200], *at = append(line, "frame ");
  at = append_number(at, frames);
  at = append(at, paused ? "   paused   " : "   ");
  if (!paused) at = append(append_number(at, rate), full_speed ? " a second, full speed   " : " a second   ");
  at = append(append(at, "last key "), last_key);
  append(at, "   |   arrows: drift,  space: pause,  F: full speed,  Q: power off");
  text_render(&scene.status, sizeof status_pixels, line, STATUS_UNIT, STATUS_WEIGHT);
}

static void pressed(uint8_t code) {
  char c = 0;
  if (code >= 0x02 && code <= SCAN_SPACE && !extended) c = (shift ? shifted : plain)[code - 0x02];
  if (extended && (code == SCAN_UP || code == SCAN_DOWN || code == SCAN_LEFT || code == SCAN_RIGHT)) {
    speed_x += code == SCAN_RIGHT ? 1 : code == SCAN_LEFT ? -1 : 0;
    speed_y += code == SCAN_DOWN ? 1 : code == SCAN_UP ? -1 : 0;
    append(last_key, code == SCAN_UP ? "up" : code == SCAN_DOWN ? "down" : code == SCAN_LEFT ? "left" : "right");
  } else if (code == SCAN_ESCAPE || c == 'q' || c == 'Q') {
    call(CALL_POWER_OFF, 0);
  } else if (code == SCAN_SPACE) {
    paused = !paused;
    call(paused ? CALL_STOP_TIMER : CALL_START_TIMER, 0);
    ticks_before = ticks;
    frames_before = frames;
    append(last_key, "space");
  } else if (c == 'f' || c == 'F') {
    full_speed = !full_speed;
    append(last_key, "F");
  } else if (code == SCAN_BACKSPACE) {
    if (typed_length > 0) typed[--typed_length] = 0;
    append(last_key, "back");
  } else if (code == SCAN_ENTER) {
    typed[typed_length = 0] = 0;
    append(last_key, "enter");
  } else if (c >= ' ') {
    last_key[0] = c;
    last_key[1] = 0;
  }
  if (c >= ' ' && code != SCAN_SPACE) {
    if (typed_length == TYPED_MAX) for (int i = 0; i < TYPED_MAX; i++) typed[i] = typed[i + 1], typed_length = TYPED_MAX - 1;
    typed[typed_length++] = c;
    typed[typed_length] = 0;
  }
  write_typed();
}

/** Takes all keys that came. Returns whether any changed something. */
static int take_keys(void) {
  int changed = 0;
  for (; keys_read != keys_written; keys_read++) {
    uint8_t code = keys[keys_read % sizeof keys];
    if (code == SCAN_EXTENDED) {
      extended = 1;
      continue;
    }
    uint8_t key = code & (SCAN_RELEASED - 1);
    if (!extended && (key == SCAN_LEFT_SHIFT || key == SCAN_RIGHT_SHIFT)) shift = (code & SCAN_RELEASED) == 0;
    else if ((code & SCAN_RELEASED) == 0) {
      pressed(key);
      changed = 1;
    }
    extended = 0;
  }
  return changed;
}

static void measure(void) {
  uint32_t passed = ticks - ticks_before;
  if (passed < TICKS_PER_SECOND) return;
  rate = (frames - frames_before) * TICKS_PER_SECOND / passed;
  ticks_before += passed;
  frames_before = frames;
}

void demo(void) {
  picture_prepare();
  text_render(&scene.title, sizeof title_pixels, "VITRINE", TITLE_UNIT, TITLE_WEIGHT);
  write_typed();
  full_speed = starts_full_speed;
  paused = starts_paused;
  if (paused) call(CALL_STOP_TIMER, 0);
  for (uint32_t next = ticks;; ) {
    uint32_t seen = events;
    int changed = take_keys();
    if (!paused && (full_speed || (int32_t)(ticks - next) >= 0)) {
      next = ticks + 1;
      scene.drift_x += speed_x;
      scene.drift_y += speed_y;
      picture_step(&scene);
      changed = 1;
    }
    if (changed || frames == 0) {
      frames++;
      measure();
      write_status();
      picture_draw(&scene);
    } else {
      call(CALL_WAIT, seen);
    }
  }
}
