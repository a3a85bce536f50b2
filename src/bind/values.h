/* Plain values on their way from one Lua state to another. Room: src/bind.
 *
 * Frozen in a buffer that belongs to neither state: freezing allocates nothing
 * in the state it reads, so it cannot raise there. nil, booleans, numbers,
 * strings, tables of those (metatables are dropped, but the mark of a JSON
 * array stays), and JSON's null, which is a null pointer. */
#ifndef LSB_VALUES_H
#define LSB_VALUES_H

#include "bind.h"

/* Where both states keep the metatable that marks a JSON array. */
#define LSB_ARRAY_MARK "longshore.array"

/* Adds the value at `index` (absolute) to the buffer. NULL, or what a policy
 * author must hear: a function, nested too deeply... A buffer that is full says
 * so itself. */
const char *lsb_freeze(lua_State *L, int index, ls_buf *buf);

/* Pushes every value of a buffer; how many. Raises when memory runs out. */
int lsb_thaw(lua_State *L, ls_str frozen);

#endif
