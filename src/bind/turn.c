/* A turn: one thread of this process at a time, the others asleep until it is
 * theirs. SQLite's own waiting looks again after ever longer pauses, and who
 * came last is often served first; this has no pauses. Room: src/bind.
 */
#include "bind.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void lsb_open_turn(lua_State *L);

#define TURN "longshore.turn"

/* One for each name, for as long as the process lives. */
struct named {
  struct named *next;
  pthread_mutex_t mutex;
  char name[];
};

static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct named *list;

struct turn {
  struct named *named;
  bool held; /* by this object */
};

static struct named *find(const char *name)
{
  struct named *one;
  size_t n = strlen(name) + 1;

  pthread_mutex_lock(&list_mutex);
  for(one = list; one && strcmp(one->name, name); one = one->next)
    ;
  if(!one && (one = malloc(sizeof(*one) + n)) != NULL) {
    pthread_mutex_init(&one->mutex, NULL);
    memcpy(one->name, name, n);
    one->next = list;
    list = one;
  }
  pthread_mutex_unlock(&list_mutex);
  return one;
}

/* turn(name) -> turn, the same for every Lua VM of the process */
static int l_turn(lua_State *L)
{
  const char *name = luaL_checkstring(L, 1);
  struct turn *turn = lua_newuserdata(L, sizeof(*turn));

  turn->held = false;
  turn->named = find(name);
  if(!turn->named)
    return luaL_error(L, "not enough memory");
  luaL_getmetatable(L, TURN);
  lua_setmetatable(L, -2);
  return 1;
}

/* turn:enter(seconds) -> whether it came in that time */
static int l_enter(lua_State *L)
{
  struct turn *turn = luaL_checkudata(L, 1, TURN);
  lua_Number seconds = luaL_checknumber(L, 2);
  struct timespec till;

  luaL_argcheck(L, seconds >= 0 && seconds <= 86400, 2, "0 to 86400 seconds");
  luaL_argcheck(L, !turn->held, 1, "it is held already");
  if(pthread_mutex_trylock(&turn->named->mutex)) {
    clock_gettime(CLOCK_REALTIME, &till);
    till.tv_sec += (time_t)seconds;
    till.tv_nsec += (long)((seconds - (lua_Number)(time_t)seconds) * 1e9);
    if(till.tv_nsec >= 1000000000) {
      till.tv_sec++;
      till.tv_nsec -= 1000000000;
    }
    if(pthread_mutex_timedlock(&turn->named->mutex, &till)) {
      lua_pushboolean(L, 0);
      return 1;
    }
  }
  turn->held = true;
  lua_pushboolean(L, 1);
  return 1;
}

/* turn:leave(): by the thread that entered; without that it does nothing */
static int l_leave(lua_State *L)
{
  struct turn *turn = luaL_checkudata(L, 1, TURN);

  if(turn->held) {
    turn->held = false;
    pthread_mutex_unlock(&turn->named->mutex);
  }
  return 0;
}

static int l_tostring(lua_State *L)
{
  struct turn *turn = luaL_checkudata(L, 1, TURN);

  lua_pushfstring(L, TURN " (%s)", turn->held ? "held" : "free");
  return 1;
}

void lsb_open_turn(lua_State *L)
{
  static const luaL_Reg funcs[] = {
    { "turn", l_turn },
    { NULL, NULL }
  };
  static const luaL_Reg methods[] = {
    { "enter", l_enter },
    { "leave", l_leave },
    { NULL, NULL }
  };

  lsb_new_class(L, TURN, methods);
  luaL_getmetatable(L, TURN);
  lua_pushcfunction(L, l_leave);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
  lsb_setfuncs(L, funcs);
}
