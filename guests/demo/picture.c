// The picture: waves of colour, panes of glass that drift over them and bend what lies behind, the name, and two lines of text. Composed a row
// at a time in the cache and then stored, so that no half-drawn row is ever on the screen. Integers only.
#include "demo.h"

enum { COLOURS = 1024, TURN = 1024, PANES = 4, SHADOW = 18, CORNER = 14, DIAGONALS = WIDTH + HEIGHT + 1024, BEND = 72, TITLE_Y = 300 };

struct pane { int x, y, width, height, dx, dy; }; // position and speed in 1/16 pixel

static uint32_t palette[COLOURS], glass[COLOURS];
static int16_t sines[TURN];
static int16_t columns[WIDTH + 256], diagonals[DIAGONALS];
static uint8_t corner_cut[CORNER];
static struct pane panes[PANES] = {
  { 90 * 16, 80 * 16, 360, 230, 19, 11 }, { 760 * 16, 90 * 16, 300, 380, -13, 14 }, { 300 * 16, 430 * 16, 420, 190, 11, -17 }, { 960 * 16, 500 * 16, 200, 200, -21, -13 },
};

static uint32_t mix(uint32_t a, uint32_t b, uint32_t share) { // share of b, of 256
  uint32_t even = ((a & 0xff00ff) * (256 - share) + (b & 0xff00ff) * share) >> 8 & 0xff00ff;
  uint32_t odd = ((a & 0x00ff00) * (256 - share) + (b & 0x00ff00) * share) >> 8 & 0x00ff00;
  return even | odd;
}

static uint32_t half(uint32_t a, uint32_t b) { return ((a & 0xfefefe) >> 1) + ((b & 0xfefefe) >> 1); }

int sine(int angle) { return sines[angle & (TURN - 1)]; }

void picture_prepare(void) {
  for (int i = 0; i < TURN; i++) { // Bhaskara's rational approximation, on a half turn of 512
    int64_t x = i & 511, p = x * (512 - x), value = 256 * 16 * p / (5 * 512 * 512 - 4 * p);
    sines[i] = (int16_t)(i < 512 ? value : -value);
  }
  static const uint32_t stops[] = { 0x0a1030, 0x14285f, 0x1d5a8c, 0x2a9da8, 0x7fd1b9, 0x3a7ca5, 0x3b3a86, 0x6b3a8f, 0xb4527a, 0x5a2d6e, 0x1a1848 };
  enum { STOPS = sizeof stops / sizeof *stops };
  for (int i = 0; i < COLOURS; i++) {
    int at = i * STOPS, from = at / COLOURS, share = (at % COLOURS) * 256 / COLOURS;
    share = share * share * (768 - 2 * share) / 65536; // eases in and out, so that no stop shows
    palette[i] = mix(stops[from], stops[(from + 1) % STOPS], (uint32_t)share);
    glass[i] = mix(palette[i], 0xe8f4ff, 90);
  }
  for (int i = 0; i < CORNER; i++) { // how far a rounded corner's row is cut: a quarter circle
    int rise = CORNER - i, cut = 0;
    while (cut < CORNER && (CORNER - cut) * (CORNER - cut) + rise * rise > CORNER * CORNER + CORNER) cut++;
    corner_cut[i] = (uint8_t)cut;
  }
}

void picture_step(struct scene *scene) {
  scene->time += 256;
  for (int i = 0; i < PANES; i++) {
    struct pane *p = &panes[i];
    p->x += p->dx;
    p->y += p->dy;
    if (p->x < 0 || p->x + p->width * 16 > WIDTH * 16) p->dx = p->x < 0 ? (p->dx < 0 ? -p->dx : p->dx) : (p->dx > 0 ? -p->dx : p->dx);
    if (p->y < 0 || p->y + p->height * 16 > (HEIGHT - 56) * 16) p->dy = p->y < 0 ? (p->dy < 0 ? -p->dy : p->dy) : (p->dy > 0 ? -p->dy : p->dy);
  }
}

static void shade(uint32_t *row, int from, int to) {
  if (from < 0) from = 0;
  if (to > WIDTH) to = WIDTH;
  for (int x = from; x < to; x++) row[x] -= (row[x] >> 2) & 0x3f3f3f;
}

/** One pane's part of row `y`: its shadow, then the glass. `base` is the row's own wave, `bend` where it looks through to. */
static void draw_pane(uint32_t *row, const struct pane *p, int y, int base, int bend) {
  int left = p->x / 16, top = p->y / 16, right = left + p->width, bottom = top + p->height;
  if (y >= top + SHADOW && y < bottom + SHADOW) shade(row, y < bottom ? right : left + SHADOW, right + SHADOW);
  if (y < top || y >= bottom) return;
  int inner = y - top < bottom - 1 - y ? y - top : bottom - 1 - y;
  int cut = inner < CORNER ? corner_cut[inner] : 0;
  int from = left + cut < 0 ? 0 : left + cut, to = right - cut > WIDTH ? WIDTH : right - cut;
  const int16_t *column = columns + BEND, *diagonal = diagonals + y + 2 * BEND;
  for (int x = from; x < to; x++) row[x] = half(row[x], glass[(column[x] + diagonal[x] + base + bend) & (COLOURS - 1)]);
  int sheen = left + p->width / 3 - (y - top) / 2; // light that falls across
  for (int x = sheen < from ? from : sheen; x < sheen + 54 && x < to; x++) row[x] = mix(row[x], 0xffffff, 26);
  uint32_t edge = inner < 2 ? 150 : 0;
  if (edge) for (int x = from; x < to; x++) row[x] = mix(row[x], 0xffffff, edge);
  for (int x = 0; x < 2 + cut / 4; x++) {
    if (from + x < to) row[from + x] = mix(row[from + x], 0xffffff, 150);
    if (to - 1 - x >= from) row[to - 1 - x] = mix(row[to - 1 - x], 0xffffff, 90);
  }
}

/** One row of a mask at `left`, `top`, in `colour`. */
static void draw_mask(uint32_t *row, const struct mask *mask, int left, int top, int y, uint32_t colour, int strength) {
  if (y < top || y >= top + mask->height) return;
  const uint8_t *pixels = mask->pixels + (y - top) * mask->width;
  int from = left < 0 ? -left : 0, to = left + mask->width > WIDTH ? WIDTH - left : mask->width;
  for (int x = from; x < to; x++) if (pixels[x]) row[left + x] = mix(row[left + x], colour, (uint32_t)(pixels[x] * strength) >> 8);
}

void picture_draw(const struct scene *scene) {
  static uint32_t row[WIDTH] __attribute__((aligned(64)));
  int t = scene->time >> 8;
  for (int x = 0; x < WIDTH + 256; x++) columns[x] = (int16_t)(sine(x * 5 / 8 + t + scene->drift_x) + sine(x * 3 / 8 - t / 2) / 2);
  for (int d = 0; d < DIAGONALS; d++) diagonals[d] = (int16_t)(sine(d / 3 + t / 3 + scene->drift_y) + sine(d * 2 / 7 - t * 2 / 3) / 2);
  int title_x = (WIDTH - scene->title.width) / 2;
  for (int y = 0; y < HEIGHT; y++) {
    int base = sine(y * 4 / 7 - t + scene->drift_y) + sine(y / 4 + t / 2) + t, wave = sine(y / 3 + t) / 8 + 40;
    const int16_t *column = columns + wave, *diagonal = diagonals + y + 200 - wave;
    for (int x = 0; x < WIDTH; x++) row[x] = palette[(column[x] + diagonal[x] + base) & (COLOURS - 1)];
    for (int i = 0; i < PANES; i++) draw_pane(row, &panes[i], y, base, 60 + i * 25);
    draw_mask(row, &scene->title, title_x + 5, TITLE_Y + 7, y, 0x050818, 140);
    draw_mask(row, &scene->title, title_x, TITLE_Y, y, 0xffffff, 250);
    if (y >= HEIGHT - 56) { // the bar with the two lines
      for (int x = 0; x < WIDTH; x++) row[x] = mix(row[x], 0x060a1c, y < HEIGHT - 54 ? 120 : 190);
      draw_mask(row, &scene->typed, 10, HEIGHT - 53, y, 0xffffff, 255);
      draw_mask(row, &scene->status, 10, HEIGHT - 27, y, 0x9fc4dd, 255);
    }
    uint32_t *target = framebuffer + y * WIDTH;
    uint64_t *to = (uint64_t *)target;
    const uint64_t *source = (const uint64_t *)row;
    for (int x = 0; x < WIDTH / 2; x++) to[x] = source[x];
  }
}
