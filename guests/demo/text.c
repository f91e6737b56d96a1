// Letters of our own, made of strokes on a grid and drawn smooth at any size. A glyph is a list of lines; a line is points of two digits, x
// and y, and a space begins the next line. A line of one point is a dot. Capitals are 4 wide and 6 high (y 0 to 6), small letters begin at
// y 2, descenders end at y 8. A corner cut off looks round at these sizes.
#include "demo.h"

enum { FIRST = ' ', LAST = '~', SPACE_WIDTH = 2, GAP = 2, TOP = 1, LINE_HEIGHT = 10, SUB = 16 };

static const char *const glyphs[LAST - FIRST + 1] = {
  "", "0004 06", "0001 2021", "1016 3036 0242 0444", "413010010213334445361605 2026", "4006 0000 4646", "461202011020313204051626 2644", "0001",
  "10020416", "00121406", "2125 0244 0442", "2125 0343", "1607", "0343", "06", "4006",
  "103041453616050110", "012026 0646", "01103041420646", "01103041423323 334445361605", "36300444", "400002334345361605", "30100105163645443303", "004016",
  "103041423313020110 1304051636454433", "0516364541301001021343", "02 05", "12 1506", "310335", "0242 0444", "013305", "01103041422424 26",
  "45361605011030414434233244", "062046 1434", "00063645443303 3342413000", "4130100105163645", "00062644422000", "40000646 0333", "400006 0333", "41301001051636454323",
  "0006 4046 0343", "0006", "3035261605", "0006 4003 1346", "000646", "0600234046", "06004640", "103041453616050110",
  "06003041423303", "103041453616050110 2446", "06003041423303 2346", "413010010213334445361605", "0040 2026", "000516364540", "002640", "0016233640",
  "0046 4006", "002340 2326", "00400646", "20000626", "0046", "00202606", "022042", "0747",
  "0011", "12223336 36261605142434", "0006 0312223335261605", "3322120305162635", "3036 3322120305162635", "04343322120305162635", "2010 1016 0222", "3237281807 3322120305162635",
  "0006 0312223336", "0206 00", "121708 10", "0006 3204 1436", "0006", "0206 03122326 23324346", "0206 0312223336", "122233352616050312",
  "0208 0312223335261605", "3238 3322120305162635", "0206 031222", "33221203143435261605", "101526 0222", "0205162635 3236", "021632", "0216243642",
  "0236 3206", "021532 1508", "02320636", "20111203141526", "0008", "00111223141506", "03122332",
};

static const char *glyph_of(char c) { return glyphs[(c < FIRST || c > LAST ? '?' : c) - FIRST]; }

static int glyph_width(char c) {
  if (c == ' ') return SPACE_WIDTH;
  int width = 0;
  for (const char *at = glyph_of(c); *at; at += at[0] == ' ' ? 1 : 2) if (*at != ' ' && *at - '0' > width) width = *at - '0';
  return width;
}

static int square_root(int value) {
  int root = 0;
  for (int bit = 1 << 14; bit; bit >>= 1) if ((root + bit) * (root + bit) <= value) root += bit;
  return root;
}

/** Lays one stroke with round ends over what is there. Coordinates in 1/16 pixel; a pixel's coverage falls off over one pixel at the edge. */
static void stroke(struct mask *mask, int x0, int y0, int x1, int y1, int radius) {
  int left = ((x0 < x1 ? x0 : x1) - radius) / SUB - 1, right = ((x0 > x1 ? x0 : x1) + radius) / SUB + 1;
  int top = ((y0 < y1 ? y0 : y1) - radius) / SUB - 1, bottom = ((y0 > y1 ? y0 : y1) + radius) / SUB + 1;
  if (left < 0) left = 0;
  if (top < 0) top = 0;
  if (right >= mask->width) right = mask->width - 1;
  if (bottom >= mask->height) bottom = mask->height - 1;
  int dx = x1 - x0, dy = y1 - y0, length2 = dx * dx + dy * dy;
  for (int y = top; y <= bottom; y++) {
    for (int x = left; x <= right; x++) {
      int px = x * SUB + SUB / 2 - x0, py = y * SUB + SUB / 2 - y0;
      int along = px * dx + py * dy;
      if (along < 0) along = 0;
      if (along > length2) along = length2;
      int nx = px, ny = py;
      if (length2) {
        nx -= (int)((int64_t)dx * along / length2);
        ny -= (int)((int64_t)dy * along / length2);
      }
      int distance2 = nx * nx + ny * ny, reach = radius + SUB / 2;
      if (distance2 >= reach * reach) continue;
      int coverage = (reach - square_root(distance2)) * 255 / SUB;
      uint8_t *pixel = &mask->pixels[y * mask->width + x];
      if (coverage > 255) coverage = 255;
      if (coverage > *pixel) *pixel = (uint8_t)coverage;
    }
  }
}

void text_render(struct mask *mask, size_t room, const char *text, int unit, int weight) {
  int width = 2 * GAP;
  for (const char *c = text; *c; c++) width += glyph_width(*c) + (c[1] ? GAP : 0);
  mask->width = width * unit / SUB + 1;
  mask->height = LINE_HEIGHT * unit / SUB + 1;
  if ((size_t)mask->width * (size_t)mask->height > room) mask->width = (int)(room / (size_t)mask->height);
  for (int i = 0; i < mask->width * mask->height; i++) mask->pixels[i] = 0;
  int x = GAP * unit, y = TOP * unit;
  for (const char *c = text; *c; c++) {
    int last_x = -1, last_y = 0;
    for (const char *at = glyph_of(*c); *at;) {
      if (*at == ' ') {
        last_x = -1;
        at++;
        continue;
      }
      int to_x = x + (at[0] - '0') * unit, to_y = y + (at[1] - '0') * unit;
      int alone = last_x < 0 && (at[2] == 0 || at[2] == ' ');
      if (last_x >= 0 || alone) stroke(mask, alone ? to_x : last_x, alone ? to_y : last_y, to_x, to_y, weight);
      last_x = to_x;
      last_y = to_y;
      at += 2;
    }
    x += (glyph_width(*c) + GAP) * unit;
  }
}
