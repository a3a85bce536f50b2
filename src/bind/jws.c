/* Keys of web tokens for Lua. Room: src/bind.
 *
 *   key = core.jws_key{ algorithm = "RS256", pem = text }
 *         core.jws_key{ algorithm = "HS256", secret = bytes }
 *         core.jws_key{ algorithm = "RS256", n = bytes, e = bytes }
 *         core.jws_key{ algorithm = "ES256", x = bytes, y = bytes }
 *         core.jws_key{ algorithm = "EdDSA", x = bytes }
 *   key:verify(data, signature) -> true | nil, err
 */
#include "bind.h"
#include "../core/jws.h"

void lsb_open_jws(lua_State *L);

#define KEY "longshore.jws_key"

static const char *const names[] = { "HS256", "RS256", "ES256", "EdDSA", NULL };

static int key_fail(lua_State *L, ls_code code, ls_jws_algorithm alg)
{
  switch(code) {
  case LS_ENOMEM:
    return luaL_error(L, "not enough memory");
  case LS_ELIMIT:
    if(alg == LS_JWS_HS256)
      return lsb_fail(L, "invalid", "a secret for HS256 has at least %d bytes",
                      LS_JWS_SECRET_MIN);
    return lsb_fail(L, "invalid", "an RSA key has at least %d bits",
                    LS_JWS_RSA_BITS_MIN);
  case LS_EINVAL:
    return lsb_fail(L, "invalid", "the key is not one for %s", names[alg]);
  default:
    return lsb_fail(L, "invalid", "this is not a public key");
  }
}

/* jws_key{algorithm=, secret= | pem= | n=, e= | x=, y=} -> key | nil, err
 * `algorithm` is HS256, RS256, ES256 or EdDSA; numbers are raw bytes. */
static int l_key(lua_State *L)
{
  static const char *const known[] = { "algorithm", "secret", "pem", "n", "e",
                                       "x", "y", NULL };
  ls_str pem;
  ls_jws_key **key;
  ls_jws_algorithm alg;
  ls_code code;
  int i = 0;
  ls_str name;

  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lsb_check_keys(L, 1, known);
  name = lsb_field_str(L, 1, "algorithm", NULL);
  while(names[i] && (strlen(names[i]) != name.n ||
                     memcmp(names[i], name.p, name.n)))
    i++;
  if(!names[i])
    return luaL_argerror(L, 1, "algorithm: HS256, RS256, ES256 or EdDSA");
  alg = (ls_jws_algorithm)i;

  key = lua_newuserdata(L, sizeof(*key));
  *key = NULL;
  luaL_getmetatable(L, KEY);
  lua_setmetatable(L, -2);
  pem = lsb_field_str(L, 1, "pem", "");
  if(alg == LS_JWS_HS256)
    code = ls_jws_key_secret(key, lsb_field_str(L, 1, "secret", NULL));
  else if(pem.n)
    code = ls_jws_key_pem(key, alg, pem);
  else if(alg == LS_JWS_RS256)
    code = ls_jws_key_rsa(key, lsb_field_str(L, 1, "n", NULL),
                          lsb_field_str(L, 1, "e", NULL));
  else if(alg == LS_JWS_ES256)
    code = ls_jws_key_p256(key, lsb_field_str(L, 1, "x", NULL),
                           lsb_field_str(L, 1, "y", NULL));
  else
    code = ls_jws_key_ed25519(key, lsb_field_str(L, 1, "x", NULL));
  return code ? key_fail(L, code, alg) : 1;
}

static ls_jws_key *check_key(lua_State *L)
{
  ls_jws_key **key = luaL_checkudata(L, 1, KEY);

  luaL_argcheck(L, *key, 1, "the key is closed");
  return *key;
}

/* key:verify(data, signature) -> true | nil, err (signature_mismatch) */
static int l_verify(lua_State *L)
{
  ls_jws_key *key = check_key(L);
  ls_str data, signature;
  ls_code code;

  data.p = luaL_checklstring(L, 2, &data.n);
  signature.p = luaL_checklstring(L, 3, &signature.n);
  code = ls_jws_verify(key, data, signature);
  if(code == LS_ENOMEM)
    return luaL_error(L, "not enough memory");
  if(code)
    return lsb_fail(L, "signature_mismatch", "the signature does not match");
  lua_pushboolean(L, 1);
  return 1;
}

/* key:algorithm() -> its name */
static int l_algorithm(lua_State *L)
{
  lua_pushstring(L, names[ls_jws_key_algorithm(check_key(L))]);
  return 1;
}

static int l_gc(lua_State *L)
{
  ls_jws_key **key = luaL_checkudata(L, 1, KEY);

  ls_jws_key_free(*key);
  *key = NULL;
  return 0;
}

static int l_tostring(lua_State *L)
{
  lua_pushfstring(L, KEY " (%s)", names[ls_jws_key_algorithm(check_key(L))]);
  return 1;
}

void lsb_open_jws(lua_State *L)
{
  static const luaL_Reg funcs[] = {
    { "jws_key", l_key },
    { NULL, NULL }
  };
  static const luaL_Reg methods[] = {
    { "verify", l_verify },
    { "algorithm", l_algorithm },
    { NULL, NULL }
  };

  lsb_new_class(L, KEY, methods);
  luaL_getmetatable(L, KEY);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
  lsb_setfuncs(L, funcs);
}
