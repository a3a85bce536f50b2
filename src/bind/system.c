/* Time, sleep and randomness: what the core takes as parameters, read here
 * for the Lua side to inject. Room: src/bind. */
#include "bind.h"

#include <errno.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

void lsb_open_system(lua_State *L);

/* now() -> seconds since 1970 with a fraction */
static int l_now(lua_State *L)
{
  struct timespec ts;

  clock_gettime(CLOCK_REALTIME, &ts);
  lua_pushnumber(L, (lua_Number)ts.tv_sec + (lua_Number)ts.tv_nsec / 1e9);
  return 1;
}

/* monotonic() -> seconds since some moment, never backwards */
static int l_monotonic(lua_State *L)
{
  struct timespec ts;

  clock_gettime(CLOCK_MONOTONIC, &ts);
  lua_pushnumber(L, (lua_Number)ts.tv_sec + (lua_Number)ts.tv_nsec / 1e9);
  return 1;
}

/* sleep(seconds): blocks this thread; ends early when a signal arrives */
static int l_sleep(lua_State *L)
{
  lua_Number seconds = luaL_checknumber(L, 1);
  struct timespec ts;

  luaL_argcheck(L, seconds >= 0 && seconds <= 86400, 1,
                "0 to 86400 seconds expected");
  ts.tv_sec = (time_t)seconds;
  ts.tv_nsec = (long)((seconds - (lua_Number)ts.tv_sec) * 1e9);
  nanosleep(&ts, NULL);
  return 0;
}

/* random(n) -> n bytes from the system's generator, fit for keys and ids */
static int l_random(lua_State *L)
{
  size_t n = (size_t)lsb_check_uint(L, 1, 0, 4096);
  unsigned char bytes[4096];

  if(n && RAND_bytes(bytes, (int)n) != 1)
    return lsb_fail(L, "internal", "the system gave no random bytes");
  lua_pushlstring(L, (const char *)bytes, n);
  OPENSSL_cleanse(bytes, n);
  return 1;
}

/* letters(n) -> n random characters of a-z and 2-7 (RFC 4648 base 32), five
 * bits each: 32 divides 256, so none is likelier than another */
static int l_letters(lua_State *L)
{
  static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
  size_t n = (size_t)lsb_check_uint(L, 1, 0, 256);
  unsigned char bytes[256];
  char text[256];

  if(n && RAND_bytes(bytes, (int)n) != 1)
    return lsb_fail(L, "internal", "the system gave no random bytes");
  for(size_t i = 0; i < n; i++)
    text[i] = alphabet[bytes[i] % 32];
  lua_pushlstring(L, text, n);
  OPENSSL_cleanse(bytes, sizeof(bytes));
  OPENSSL_cleanse(text, sizeof(text));
  return 1;
}

void lsb_open_system(lua_State *L)
{
  static const luaL_Reg funcs[] = {
    { "now", l_now },
    { "monotonic", l_monotonic },
    { "sleep", l_sleep },
    { "random", l_random },
    { "letters", l_letters },
    { NULL, NULL }
  };

  lsb_setfuncs(L, funcs);
}
