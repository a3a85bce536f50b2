/* A lock that a file stands for, between threads and processes alike; the
 * system frees it when its holder dies. Room: src/bind. */
#include "bind.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_MT "longshore.lock"

void lsb_open_lock(lua_State *L);

struct lock {
  int fd; /* -1: not held */
};

/* lock:close(): gives the lock back; again does nothing */
static int l_lock_close(lua_State *L)
{
  struct lock *lock = luaL_checkudata(L, 1, LOCK_MT);

  if(lock->fd >= 0) {
    close(lock->fd);
    lock->fd = -1;
  }
  return 0;
}

static int l_lock_tostring(lua_State *L)
{
  struct lock *lock = luaL_checkudata(L, 1, LOCK_MT);

  lua_pushstring(L, lock->fd >= 0 ? "lock (held)" : "lock (free)");
  return 1;
}

/* lock_file(path [, "exclusive"|"shared" [, wait=true]]) -> lock | nil, err
 * Makes the file where it is missing, in a folder that must be there. With
 * wait=false a lock that another holds is an error of code "busy". Not for an
 * event loop: it may wait. */
static int l_lock_file(lua_State *L)
{
  static const char *const modes[] = { "exclusive", "shared", NULL };
  const char *path = lsb_check_path(L, 1);
  int mode = luaL_checkoption(L, 2, "exclusive", modes);
  int wait = lua_isnoneornil(L, 3) || lua_toboolean(L, 3);
  int how = (mode == 0 ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB);
  struct lock *lock = lua_newuserdata(L, sizeof(*lock));
  int rc;

  lock->fd = -1;
  luaL_getmetatable(L, LOCK_MT);
  lua_setmetatable(L, -2);

  do {
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  } while(lock->fd < 0 && errno == EINTR);
  if(lock->fd < 0)
    return lsb_fail(L, "io", "%s: %s", path, strerror(errno));
  do {
    rc = flock(lock->fd, how);
  } while(rc != 0 && errno == EINTR);
  if(rc != 0) {
    int err = errno;

    close(lock->fd);
    lock->fd = -1;
    return lsb_fail(L, err == EWOULDBLOCK ? "busy" : "io", "%s: %s", path,
                    strerror(err));
  }
  return 1;
}

void lsb_open_lock(lua_State *L)
{
  static const luaL_Reg funcs[] = {
    { "lock_file", l_lock_file },
    { NULL, NULL }
  };
  static const luaL_Reg methods[] = {
    { "close", l_lock_close },
    { NULL, NULL }
  };

  luaL_newmetatable(L, LOCK_MT);
  lua_pushcfunction(L, l_lock_close);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_lock_close);
  lua_setfield(L, -2, "__close");
  lua_pushcfunction(L, l_lock_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, LOCK_MT);
  lua_setfield(L, -2, "__name");
  lua_newtable(L);
  lsb_setfuncs(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  lsb_setfuncs(L, funcs);
}
