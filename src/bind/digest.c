/* Digests, text forms of bytes, percent-encoding and constant-time compare
 * for Lua. Room: src/bind.
 */
#include "bind.h"
#include "../core/digest.h"
#include "../core/secure.h"
#include "../core/text.h"
#include "../core/uri.h"

void lsb_open_digest(lua_State *L);

static ls_str check_str(lua_State *L, int index)
{
  ls_str s;

  s.p = luaL_checklstring(L, index, &s.n);
  return s;
}

/* sha256(data) -> raw bytes */
static int l_sha256(lua_State *L)
{
  ls_str s = check_str(L, 1);
  unsigned char out[LS_SHA256_SIZE];

  ls_sha256_once(s.p, s.n, out);
  lua_pushlstring(L, (const char *)out, sizeof(out));
  return 1;
}

/* sha256_implementations() -> the names of those this CPU can run */
static int l_implementations(lua_State *L)
{
  const char *name;
  int i;

  lua_newtable(L);
  for(i = 0; (name = ls_sha256_name((size_t)i)) != NULL; i++) {
    lua_pushstring(L, name);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* sha256_use(name | nil): forces one, for tests; nil for the best */
static int l_use(lua_State *L)
{
  if(ls_sha256_use(luaL_optstring(L, 1, NULL)))
    return luaL_argerror(L, 1, "no such implementation on this CPU");
  return 0;
}

static int evp_digest(lua_State *L, unsigned which)
{
  ls_str s = check_str(L, 1);
  ls_digest d;
  ls_code code = ls_digest_init(&d, which);

  if(!code)
    code = ls_digest_update(&d, s.p, s.n);
  if(!code)
    code = ls_digest_final(&d);
  ls_digest_free(&d);
  if(code == LS_ENOMEM)
    return luaL_error(L, "not enough memory");
  if(code)
    return lsb_fail(L, "unsupported", "OpenSSL here has no %s",
                    which == LS_DIGEST_MD5 ? "MD5" : "SHA-1");
  if(which == LS_DIGEST_MD5)
    lua_pushlstring(L, (const char *)d.md5, sizeof(d.md5));
  else
    lua_pushlstring(L, (const char *)d.sha1, sizeof(d.sha1));
  return 1;
}

/* md5(data) -> raw bytes | nil, err */
static int l_md5(lua_State *L)
{
  return evp_digest(L, LS_DIGEST_MD5);
}

/* sha1(data) -> raw bytes | nil, err */
static int l_sha1(lua_State *L)
{
  return evp_digest(L, LS_DIGEST_SHA1);
}

/* hmac_sha256(key, data) -> raw bytes */
static int l_hmac_sha256(lua_State *L)
{
  ls_str key = check_str(L, 1);
  ls_str s = check_str(L, 2);
  unsigned char out[LS_SHA256_SIZE];
  ls_hmac mac;

  ls_hmac_init(&mac, key.p, key.n);
  ls_hmac_sign(&mac, s.p, s.n, out);
  ls_wipe(&mac, sizeof(mac));
  lua_pushlstring(L, (const char *)out, sizeof(out));
  return 1;
}

/* A userdata of n bytes: memory that an error thrown later cannot leak. */
static char *scratch(lua_State *L, size_t n)
{
  return lua_newuserdata(L, n ? n : 1);
}

/* The largest text that is encoded or decoded here. */
#define TEXT_MAX ((size_t)1 << 30)

static ls_str check_text(lua_State *L)
{
  ls_str s = check_str(L, 1);

  luaL_argcheck(L, s.n <= TEXT_MAX, 1, "at most 1 GiB");
  return s;
}

/* hex(s) -> text, in small letters */
static int l_hex(lua_State *L)
{
  ls_str s = check_text(L);
  char *to = scratch(L, LS_HEX_SIZE(s.n));

  ls_hex(to, s.p, s.n);
  lua_pushlstring(L, to, LS_HEX_SIZE(s.n));
  return 1;
}

/* unhex(s) -> bytes | nil, err */
static int l_unhex(lua_State *L)
{
  ls_str s = check_text(L);
  char *to = scratch(L, s.n / 2);

  if(ls_unhex(to, s.p, s.n))
    return lsb_fail(L, "invalid", "not hexadecimal");
  lua_pushlstring(L, to, s.n / 2);
  return 1;
}

static int base64(lua_State *L, bool url)
{
  ls_str s = check_text(L);
  char *to = scratch(L, LS_BASE64_SIZE(s.n));
  size_t n = ls_base64(to, s.p, s.n, url);

  lua_pushlstring(L, to, n);
  return 1;
}

static int unbase64(lua_State *L, bool url)
{
  ls_str s = check_text(L);
  char *to = scratch(L, LS_UNBASE64_SIZE(s.n));
  size_t n;

  if(ls_unbase64(to, &n, s.p, s.n, url))
    return lsb_fail(L, "invalid", "not Base64");
  lua_pushlstring(L, to, n);
  return 1;
}

/* base64(s) -> text, with padding */
static int l_base64(lua_State *L)
{
  return base64(L, false);
}

/* unbase64(s) -> bytes | nil, err */
static int l_unbase64(lua_State *L)
{
  return unbase64(L, false);
}

/* base64url(s) -> text without padding */
static int l_base64url(lua_State *L)
{
  return base64(L, true);
}

/* unbase64url(s) -> bytes | nil, err; with padding or without */
static int l_unbase64url(lua_State *L)
{
  return unbase64(L, true);
}

/* equal(a, b) -> boolean, in a time that does not tell where they differ */
static int l_equal(lua_State *L)
{
  lua_pushboolean(L, ls_equal(check_str(L, 1), check_str(L, 2)));
  return 1;
}

/* is_plain(s) -> whether it is printable ASCII without " and \\: its own JSON */
static int l_is_plain(lua_State *L)
{
  lua_pushboolean(L, ls_is_plain(check_str(L, 1)));
  return 1;
}

/* utf8_bad(s [, from]) -> the position of the first byte from there that is not
 * part of well-formed UTF-8, or nil. */
static int l_utf8_bad(lua_State *L)
{
  ls_str s = check_str(L, 1);
  lua_Integer from = luaL_optinteger(L, 2, 1);
  size_t skip, n;

  luaL_argcheck(L, from >= 1, 2, "a position in the text expected");
  skip = (uint64_t)from - 1 < s.n ? (size_t)from - 1 : s.n;
  s.p += skip;
  s.n -= skip;
  n = ls_utf8_span(s);
  if(n == s.n)
    lua_pushnil(L);
  else
    lsb_push_uint(L, skip + n + 1);
  return 1;
}

/* uri_encode(s [, keep_slash]) -> text, as SigV4 has it: all but A-Z a-z 0-9
 * - . _ ~ encoded */
static int l_uri_encode(lua_State *L)
{
  ls_str s = check_text(L);
  bool keep_slash = lua_toboolean(L, 2);
  ls_buf *buf = lsb_new_buf(L, TEXT_MAX * 3);

  ls_uri_encode(buf, s, keep_slash);
  return lsb_push_buf(L, buf);
}

/* uri_decode(s [, plus_is_space]) -> text | nil, err */
static int l_uri_decode(lua_State *L)
{
  ls_str s = check_text(L);
  bool plus_is_space = lua_toboolean(L, 2);
  char *to = scratch(L, s.n);
  size_t n;

  if(ls_uri_decode(to, &n, s, plus_is_space))
    return lsb_fail(L, "invalid",
                    "a percent sign without two hexadecimal digits behind it");
  lua_pushlstring(L, to, n);
  return 1;
}

void lsb_open_digest(lua_State *L)
{
  static const luaL_Reg funcs[] = {
    { "md5", l_md5 },
    { "sha1", l_sha1 },
    { "sha256", l_sha256 },
    { "sha256_implementations", l_implementations },
    { "sha256_use", l_use },
    { "hmac_sha256", l_hmac_sha256 },
    { "hex", l_hex },
    { "unhex", l_unhex },
    { "base64", l_base64 },
    { "unbase64", l_unbase64 },
    { "base64url", l_base64url },
    { "unbase64url", l_unbase64url },
    { "equal", l_equal },
    { "is_plain", l_is_plain },
    { "utf8_bad", l_utf8_bad },
    { "uri_encode", l_uri_encode },
    { "uri_decode", l_uri_decode },
    { NULL, NULL }
  };

  lsb_setfuncs(L, funcs);
}
