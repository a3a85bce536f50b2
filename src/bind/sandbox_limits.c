/* What code in a sandbox may use up. See sandbox.h. Room: src/bind. */
#include "sandbox.h"

#include <stdlib.h>
#include <time.h>

#define HOOK_COUNT 64
#define OVER(memory) (4 * (memory) + ((size_t)1 << 20))
#define MAX_CALLS 1000 /* nested; deep stacks make each error dear on 5.4 */

static double seconds_of(clockid_t clock)
{
  struct timespec now;

  clock_gettime(clock, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What this thread has used up. A run goes on in another one after it waited
 * for its host only. */
static double used(void)
{
  return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

/* Whether the time is over. A machine that did something else meanwhile is not
 * the policy's doing; the clock that says so is the dearer one. */
static int is_over(const lsb_box *box)
{
  return seconds_of(CLOCK_MONOTONIC) > box->deadline && used() > box->till;
}

static void box_hook(lua_State *S, lua_Debug *ar);

/* Whether more memory than there may be is granted nonetheless.
 *
 * LuaJIT's fast functions and its calls do not survive a refusal: the error's
 * text is written where the stack may end, or over what is alive. So the run is
 * stopped at its next instruction, and only what no single one of these needs
 * (a copy of the longest string, with a buffer twice as long) is refused.
 * Lua 5.4 collects everything before it tries again: that is work, too. */
static int is_granted(lsb_box *box, size_t more)
{
#if LUA_VERSION_NUM == 501
  if(!box->stopped)
    box->stopped = "memory";
  if(box->state && !box->hasty) {
    box->hasty = 1;
    lua_sethook(box->state, box_hook, LUA_MASKCOUNT, 1);
  }
  return more <= OVER(box->memory) && box->used <= OVER(box->memory) - more;
#else
  (void)more;
  box->left -= (int64_t)(box->used / 64);
  return 0;
#endif
}

static void *box_alloc(void *ud, void *old, size_t old_size, size_t size)
{
  lsb_box *box = ud;
  void *new;

  if(!old)
    old_size = 0; /* Lua 5.4 tells the kind of object here */
  if(!size) {
    free(old);
    box->used -= old_size;
    return NULL;
  }
  if(size > old_size &&
     (box->used > box->memory || size - old_size > box->memory - box->used) &&
     !is_granted(box, size - old_size))
    return NULL;
  new = realloc(old, size);
  if(new)
    box->used += size - old_size;
  return new;
}

static lsb_box *box_of(lua_State *S)
{
  void *ud;

  lua_getallocf(S, &ud);
  return ud;
}

static void raise_if_stopped(lua_State *S, lsb_box *box)
{
  if(!box->stopped) {
    if(box->left < 0)
      box->stopped = "instructions";
    else if(is_over(box))
      box->stopped = "time";
  }
  if(box->stopped)
    luaL_error(S, "stopped: out of %s", box->stopped);
}

static void box_hook(lua_State *S, lua_Debug *ar)
{
  lsb_box *box = box_of(S);

  box->left -= HOOK_COUNT;
  if(!box->stopped && lua_getstack(S, MAX_CALLS, ar))
    box->stopped = "calls";
  raise_if_stopped(S, box);
}

void lsb_box_watch(lua_State *S)
{
  lua_sethook(S, box_hook, LUA_MASKCOUNT, HOOK_COUNT);
}

lua_State *lsb_box_state(lsb_box *box)
{
  lua_State *S = lua_newstate(box_alloc, box);

  if(S)
    lsb_box_watch(S);
  return S;
}

void lsb_box_charge(lua_State *S, int64_t instructions)
{
  lsb_box *box = box_of(S);

  box->left -= instructions;
  raise_if_stopped(S, box);
}

lsb_rest lsb_box_all(const lsb_box *box)
{
  lsb_rest rest = { box->instructions, box->seconds };

  return rest;
}

void lsb_box_refill(lsb_box *box, const lsb_rest *rest)
{
  if(box->hasty) {
    box->hasty = 0;
    lsb_box_watch(box->state);
  }
  box->left = rest->instructions;
  box->deadline = seconds_of(CLOCK_MONOTONIC) + rest->seconds;
  box->till = used() + rest->seconds;
}

lsb_rest lsb_box_left(const lsb_box *box)
{
  lsb_rest rest = { box->left, box->till - used() };

  return rest;
}
