/* Sealing and a stream of SHA-256 for Lua. Room: src/bind. */
#include "bind.h"
#include "../core/seal.h"
#include "../core/secure.h"
#include "../core/sha256.h"

#include <openssl/rand.h>

void lsb_open_seal(lua_State *L);

#define STREAM "longshore.sha256"

static ls_str text_at(lua_State *L, int index, const char *fallback)
{
  ls_str s;

  s.p = fallback ? luaL_optlstring(L, index, fallback, &s.n)
                 : luaL_checklstring(L, index, &s.n);
  return s;
}

static ls_str key_at(lua_State *L)
{
  ls_str key = text_at(L, 1, NULL);

  luaL_argcheck(L, key.n == LS_SEAL_KEY, 1, "a key of 32 bytes expected");
  return key;
}

static int fail(lua_State *L, ls_code code)
{
  switch(code) {
  case LS_ELIMIT:
    return lsb_fail(L, "too_large", "at most 1 MiB can be sealed");
  case LS_EPARSE:
  case LS_ESIG:
    return lsb_fail(L, "integrity", "this was not sealed with this key for "
                                    "this purpose, or was changed since");
  case LS_ENOMEM:
    return luaL_error(L, "not enough memory");
  default:
    return lsb_fail(L, "unsupported", "OpenSSL here has no AES-256-GCM");
  }
}

/* seal(key, text [, context]) -> sealed | nil, err */
static int l_seal(lua_State *L)
{
  ls_str key = key_at(L);
  ls_str text = text_at(L, 2, NULL);
  ls_str context = text_at(L, 3, "");
  unsigned char nonce[LS_SEAL_NONCE];
  unsigned char *out;
  ls_code code;

  if(text.n > LS_SEAL_MAX)
    return fail(L, LS_ELIMIT);
  out = lua_newuserdata(L, text.n + LS_SEAL_MORE);
  if(RAND_bytes(nonce, sizeof(nonce)) != 1)
    return lsb_fail(L, "internal", "the system has no random bytes");
  code = ls_seal(out, key, nonce, text, context);
  if(code)
    return fail(L, code);
  lua_pushlstring(L, (const char *)out, text.n + LS_SEAL_MORE);
  return 1;
}

/* open(key, sealed [, context]) -> text | nil, err */
static int l_open(lua_State *L)
{
  ls_str key = key_at(L);
  ls_str sealed = text_at(L, 2, NULL);
  ls_str context = text_at(L, 3, "");
  unsigned char *out;
  size_t n;
  ls_code code;

  if(sealed.n < LS_SEAL_MORE)
    return fail(L, LS_EPARSE);
  n = sealed.n - LS_SEAL_MORE;
  if(n > LS_SEAL_MAX)
    return fail(L, LS_ELIMIT);
  out = lua_newuserdata(L, n ? n : 1);
  code = ls_unseal(out, key, sealed, context);
  if(code)
    return fail(L, code);
  lua_pushlstring(L, (const char *)out, n);
  ls_wipe(out, n);
  return 1;
}

static ls_sha256 *check_stream(lua_State *L)
{
  return luaL_checkudata(L, 1, STREAM);
}

/* sha256_new() -> hash, for data that comes in pieces */
static int l_sha256_new(lua_State *L)
{
  ls_sha256 *s = lua_newuserdata(L, sizeof(*s));

  ls_sha256_init(s);
  luaL_getmetatable(L, STREAM);
  lua_setmetatable(L, -2);
  return 1;
}

/* hash:update(bytes) -> hash */
static int l_update(lua_State *L)
{
  ls_sha256 *s = check_stream(L);
  ls_str bytes = text_at(L, 2, NULL);

  ls_sha256_update(s, bytes.p, bytes.n);
  lua_settop(L, 1);
  return 1;
}

/* hash:value() -> the digest of what came so far, raw */
static int l_value(lua_State *L)
{
  ls_sha256 copy = *check_stream(L);
  unsigned char out[LS_SHA256_SIZE];

  ls_sha256_final(&copy, out);
  lua_pushlstring(L, (const char *)out, sizeof(out));
  return 1;
}

void lsb_open_seal(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "update", l_update },
    { "value", l_value },
    { NULL, NULL }
  };
  static const luaL_Reg funcs[] = {
    { "seal", l_seal },
    { "open", l_open },
    { "sha256_new", l_sha256_new },
    { NULL, NULL }
  };

  lsb_new_class(L, STREAM, methods);
  lsb_setfuncs(L, funcs);
}
