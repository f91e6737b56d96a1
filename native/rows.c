// cc: shared libvitrine.so
// The picture's inner loops: which tiles of a framebuffer differ from what the viewers have, and packing tiles into a message.
//
// KVM's dirty log says which pages were written, not what changed: a page holds a thousand pixels of several rows, and a guest that
// draws the same again dirties as much as one that moves. So every dirty part of a row is compared with the shadow, the picture as
// it was last sent, and copied there if it differs. The guest may write meanwhile: what is copied is what is sent, and its later
// write marks the page again. memcmp and memcpy of the C library use the vector units that the processor has.
#include <stdint.h>
#include <string.h>

enum { PAGE_SHIFT = 12, PIXEL_BYTES = 4 };

static int is_dirty(const uint8_t *pages, uint64_t page) { return pages[page >> 3] >> (page & 7) & 1; }

// Whether any page of [first, last] is dirty; whole bytes of the bitmap at a time where it can be.
static int any_dirty(const uint8_t *pages, uint64_t first, uint64_t last) {
    for (uint64_t page = first; page <= last;) {
        if ((page & 7) == 0 && page + 7 <= last && pages[page >> 3] == 0) {
            page += 8;
            continue;
        }
        if (is_dirty(pages, page)) return 1;
        page++;
    }
    return 0;
}

// Compares the picture at `picture` (`stride` bytes a row, `width` by `height` pixels, its first byte `offset` bytes into the memory that
// `pages` describes, a bit per page) with the tight copy at `shadow`, where a page is dirty. Tiles are `tile_width` by `tile_height`
// pixels; `changed` has a byte per tile, row by row, set to 1 where something differed, and the shadow then has it.
// Returns the number of tiles that were newly set. The caller has checked that all of the picture lies in the memory.
int vitrine_compare(const uint8_t *memory, uint64_t offset, uint64_t stride, uint32_t width, uint32_t height, const uint8_t *pages,
                    uint8_t *shadow, uint32_t tile_width, uint32_t tile_height, uint8_t *changed) {
    const uint64_t row_bytes = (uint64_t)width * PIXEL_BYTES;
    const uint64_t tile_bytes = (uint64_t)tile_width * PIXEL_BYTES;
    const uint32_t columns = (width + tile_width - 1) / tile_width;
    int found = 0;
    for (uint32_t top = 0; top < height; top += tile_height) {
        const uint32_t bottom = height - top < tile_height ? height : top + tile_height;
        const uint64_t from = offset + top * stride;
        if (!any_dirty(pages, from >> PAGE_SHIFT, (offset + (bottom - 1) * stride + row_bytes - 1) >> PAGE_SHIFT)) continue;
        uint8_t *tiles = changed + (uint64_t)(top / tile_height) * columns;
        for (uint32_t y = top; y < bottom; y++) {
            const uint64_t start = offset + y * stride;
            const uint64_t end = start + row_bytes;
            uint8_t *const kept = shadow + y * row_bytes;
            // Runs of dirty pages, cut at the row's ends, then tile by tile.
            for (uint64_t at = start; at < end;) {
                uint64_t page_end = ((at >> PAGE_SHIFT) + 1) << PAGE_SHIFT;
                if (!is_dirty(pages, at >> PAGE_SHIFT)) {
                    at = page_end;
                    continue;
                }
                while (page_end < end && is_dirty(pages, page_end >> PAGE_SHIFT)) page_end += 1 << PAGE_SHIFT;
                const uint64_t run_end = page_end < end ? page_end : end;
                while (at < run_end) {
                    const uint64_t column = (at - start) / tile_bytes;
                    const uint64_t tile_end = start + (column + 1) * tile_bytes;
                    const uint64_t stop = tile_end < run_end ? tile_end : run_end;
                    uint8_t *const mine = kept + (at - start);
                    if (memcmp(mine, memory + at, stop - at) != 0) {
                        memcpy(mine, memory + at, stop - at);
                        found += !tiles[column];
                        tiles[column] = 1;
                    }
                    at = stop;
                }
            }
        }
    }
    return found;
}

// Packs `count` rectangles (x, y, width, height as u16) of the tight picture at `shadow`, `picture_width` pixels a row, one after the
// other at `out`. Returns the bytes written. The caller has checked that the rectangles lie in the picture.
uint64_t vitrine_pack(const uint8_t *shadow, uint32_t picture_width, const uint16_t *rectangles, uint32_t count, uint8_t *out) {
    const uint64_t row_bytes = (uint64_t)picture_width * PIXEL_BYTES;
    uint8_t *to = out;
    for (uint32_t i = 0; i < count; i++, rectangles += 4) {
        const uint8_t *from = shadow + rectangles[1] * row_bytes + (uint64_t)rectangles[0] * PIXEL_BYTES;
        const uint64_t bytes = (uint64_t)rectangles[2] * PIXEL_BYTES;
        if (bytes == row_bytes) {
            memcpy(to, from, bytes * rectangles[3]);
            to += bytes * rectangles[3];
            continue;
        }
        for (uint32_t y = 0; y < rectangles[3]; y++, from += row_bytes, to += bytes) memcpy(to, from, bytes);
    }
    return (uint64_t)(to - out);
}

// A tight copy of a picture in memory: for screenshots.
void vitrine_copy(const uint8_t *memory, uint64_t offset, uint64_t stride, uint32_t width, uint32_t height, uint8_t *out) {
    const uint64_t row_bytes = (uint64_t)width * PIXEL_BYTES;
    for (uint32_t y = 0; y < height; y++) memcpy(out + y * row_bytes, memory + offset + y * stride, row_bytes);
}
