/* Where the URLs of a run go: into the table on top of the stack, or as JSON
 * into a buffer, which may be emptied into that table piece by piece.
 * Room: src/bind.
 */
#ifndef LSB_RUN_SINK_H
#define LSB_RUN_SINK_H

#include "bind.h"
#include "../core/run.h"

typedef struct lsb_sink {
  ls_buf *json;       /* NULL: no JSON */
  size_t piece;       /* 0: one text */
  int count;          /* of what is in the table */
  ls_str shape;       /* what a part looks like in JSON; empty: its URL */
  uint64_t part_size; /* for the offsets in it */
} lsb_sink;

/* LuaJIT maps memory afresh for a string of 128 KiB or more, at a higher price
 * than the signing; pieces stay below that. */
#define LSB_PIECE ((size_t)96 << 10)

/* Appends a text to the table. */
void lsb_sink_add(lua_State *L, lsb_sink *to, ls_str text);

/* How much room a part with such a URL needs at most. */
size_t lsb_sink_room(const lsb_sink *to, size_t url);

void lsb_sink_take(lua_State *L, lsb_sink *to, bool first, const ls_part *part,
                   ls_str url);

#endif
