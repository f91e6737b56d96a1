// Between the parts of the demo: ring 0 (ring0.c, start.S), its life (main.c), the picture (picture.c) and text (text.c).
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { WIDTH = 1280, HEIGHT = 800 };

// Set by ring 0 before ring 3 begins.
extern uint32_t *framebuffer;
extern int starts_full_speed, starts_paused;

// Written by interrupts.
extern volatile uint32_t ticks, events, keys_written;
extern volatile uint8_t keys[64];

/** Ring 3: never returns. */
void demo(void);

/** A strip of coverage, 0 to 255 a pixel: text that is drawn once and laid over many rows. */
struct mask { int width, height; uint8_t *pixels; };

/** What the picture shows. */
struct scene {
  /** Time of the picture, in 1/256 of a tick, and what arrow keys change: the drift of the waves. */
  int32_t time, drift_x, drift_y;
  struct mask title, status, typed;
};

/** Tables that the picture needs; once. */
void picture_prepare(void);
/** Moves what moves, by one step. */
void picture_step(struct scene *scene);
/** Draws all of the picture, row by row. */
void picture_draw(const struct scene *scene);

/** Draws `text` into `mask`, whose pixels hold `room` bytes: letters of `unit` sixteenths of a pixel per grid unit, strokes of `weight` sixteenths. */
void text_render(struct mask *mask, size_t room, const char *text, int unit, int weight);

int sine(int angle); // a turn is 1024; -256 to 256
