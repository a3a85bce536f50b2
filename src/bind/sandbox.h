/* What the three files of the sandbox share. Room: src/bind.
 *
 * What the code may use up is decided in sandbox_limits.c:
 *
 * - memory, by the state's own allocator: on Lua 5.4 it refuses, on LuaJIT the
 *   next instruction does;
 * - instructions, by a count hook. LuaJIT's compiler, which never calls hooks,
 *   is off in this state;
 * - time of its thread, looked at by the hook too.
 *
 * A stop is remembered. Every later hook raises again, and so does `check`,
 * which the chunk's pcall calls: catching the error wins nothing. A sandbox in
 * which a run was stopped is closed, when those runs have ended that wait for
 * their host: they did no wrong.
 */
#ifndef LSB_SANDBOX_H
#define LSB_SANDBOX_H

#include "values.h"

typedef struct lsb_box {
  lua_State *state;     /* NULL: closed */
  size_t used;          /* bytes of memory */
  size_t memory;        /* at most */
  int64_t left;         /* instructions of this run */
  int64_t instructions; /* of a run, at most */
  double seconds;       /* of its thread's time, of a run, at most */
  double deadline;      /* on the clock: before it nothing can be used up */
  double till;          /* of the thread's time */
  const char *stopped;  /* NULL, "instructions", "time", "calls" or "memory" */
  int hasty;            /* the hook comes with every instruction */
  int waiting;          /* runs that asked their host and go on later */
  int idle;             /* the coroutine of a run that has ended; 0: none */
  int spoilt;           /* something was stopped: closed when nobody waits */
  ls_buf values;
} lsb_box;

/* A state whose allocator is bounded by box->memory, with the limits' hook;
 * NULL when there is none to be had. */
lua_State *lsb_box_state(lsb_box *box);

/* Sets the hook for a coroutine, which on Lua 5.4 has one of its own. */
void lsb_box_watch(lua_State *S);

/* What a run may still use up while it waits for its host. */
typedef struct lsb_rest {
  int64_t instructions;
  double seconds;
} lsb_rest;

/* All that a run has at its beginning. */
lsb_rest lsb_box_all(const lsb_box *box);

/* A run goes on with what it has left; what it has left when it waits. */
void lsb_box_refill(lsb_box *box, const lsb_rest *rest);
lsb_rest lsb_box_left(const lsb_box *box);

/* In the sandbox: adds to what was used up; raises when that is too much. */
void lsb_box_charge(lua_State *S, int64_t instructions);

/* The registry's name of the function that every run calls. */
#define LSB_DISPATCH "longshore.dispatch"

/* Opens the libraries and runs the chunk that makes a world of them; its
 * argument is an lsb_box_start. To be called through lsb_box_protect. */
typedef struct lsb_box_start {
  ls_str text;
  const char *name;
} lsb_box_start;

int lsb_box_begin(lua_State *S);

/* lua_cpcall, which Lua 5.4 does not have. */
int lsb_box_protect(lua_State *S, lua_CFunction f, void *ud);

#endif
