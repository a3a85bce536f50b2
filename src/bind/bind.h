/* What the binding files share: one opener for each, one way to fail, one way
 * to read an integer.
 *
 * Room: src/bind, the only files that include lua.h. A binding checks its
 * arguments, calls one core function and pushes the result. A programmer's
 * mistake raises; what can happen at run time returns nil and an error table.
 */
#ifndef LSB_BIND_H
#define LSB_BIND_H

#include "compat.h"
#include "../core/buf.h"

/* Pushes nil and an error table {code=, message=}, whose metatable is the one
 * that longshore.errors uses; returns 2, the number of results. */
int lsb_fail(lua_State *L, const char *code, const char *fmt, ...)
  __attribute__((format(printf, 3, 4)));

/* Pushes only the error table of lsb_fail, so that fields can be added. */
void lsb_push_error(lua_State *L, const char *code, const char *fmt, ...)
  __attribute__((format(printf, 3, 4)));

/* Argument `index` as a path: a string without NUL, which the system would cut
 * it at. */
const char *lsb_check_path(lua_State *L, int index);

/* nil and an error for a failed system call on a path: code `not_found` or
 * `io`, and the number in `errno`. */
int lsb_fail_errno(lua_State *L, const char *what, const char *path,
                   int error);

/* Pushes table[name] of the table at `index`, which is not negative. Raw: what
 * __index made would be nobody's once it is off the stack, and it could take
 * from the table what was read of it before. */
void lsb_get(lua_State *L, int index, const char *name);

/* Whether the value at `index` is an integer within 0..2^53, and which: exact
 * on either Lua, without raising. */
bool lsb_to_uint(lua_State *L, int index, uint64_t *value);

/* Reads argument `index` as an integer in min..max (both within 0..2^53), on
 * either Lua; raises an argument error for anything else, 1.5 and NaN too. */
uint64_t lsb_check_uint(lua_State *L, int index, uint64_t min, uint64_t max);

/* The same for a field of the table at `index`; `fallback` where it is nil. */
uint64_t lsb_field_uint(lua_State *L, int index, const char *name,
                        uint64_t min, uint64_t max, uint64_t fallback);

/* The same for a value on top of the stack, which is popped; `arg` is the
 * argument that is to blame. */
uint64_t lsb_pop_uint(lua_State *L, int arg, const char *name, uint64_t min,
                      uint64_t max, uint64_t fallback);

/* A string field of the table at `index`, which is not negative; `fallback`
 * where it is nil, or an error where that is NULL. The table keeps the string
 * alive. */
ls_str lsb_field_str(lua_State *L, int index, const char *name,
                     const char *fallback);

/* Pushes an integer below 2^53 as Lua 5.4 integer or LuaJIT number. */
void lsb_push_uint(lua_State *L, uint64_t value);

/* table[name] = value for the table on top of the stack. */
void lsb_set_uint(lua_State *L, const char *name, uint64_t value);

/* Raises when the table at `index` (absolute) has a key that is not in the
 * NULL-terminated list. */
void lsb_check_keys(lua_State *L, int index, const char *const *known);

/* A field of the table at `index`, not negative, that is a string without NUL
 * bytes, or nil: `fallback`. The table keeps the string alive. */
const char *lsb_field_text(lua_State *L, int index, const char *name,
                           const char *fallback);

/* Makes the metatable of a userdata class with these methods. */
void lsb_new_class(lua_State *L, const char *name, const luaL_Reg *methods);

/* Pushes a buffer that is freed by the collector, whatever is thrown. */
ls_buf *lsb_new_buf(lua_State *L, size_t ceiling);

/* Pushes a buffer's content as a string and frees it, or nil and an error
 * when its ceiling was reached; raises when memory was. */
int lsb_push_buf(lua_State *L, ls_buf *buf);

/* Whether a function whose results take so many bytes should be called by
 * lsb_call_paused: they would more than double the heap. */
bool lsb_pause_pays(lua_State *L, size_t bytes);

/* Calls a function with what is on the stack while LuaJIT's collector rests;
 * the number of results. It has nothing to find among strings that all live
 * until the call returns, and begins afterwards, at its usual pace. */
int lsb_call_paused(lua_State *L, lua_CFunction function);

#endif
