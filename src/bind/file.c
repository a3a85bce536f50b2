/* Files for Lua: what they are, making them durable, their digests in one
 * pass. Room: src/bind.
 */
#include "bind.h"
#include "../transfer/checksum.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void lsb_open_file(lua_State *L);

static void set_nanoseconds(lua_State *L, const char *name, int64_t ns)
{
  char text[24];

  snprintf(text, sizeof(text), "%" PRId64, ns);
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

/* file_stat(path) -> {size, mtime_ns, ctime_ns, inode, type} | nil, err */
static int l_file_stat(lua_State *L)
{
  static const char *const types[] = { "file", "directory", "other" };
  const char *path = lsb_check_path(L, 1);
  ls_file_info info;
  char text[48];

  if(ls_file_stat(path, &info))
    return lsb_fail_errno(L, "stat", path, errno);
  lua_createtable(L, 0, 5);
  lsb_push_uint(L, info.size);
  lua_setfield(L, -2, "size");
  set_nanoseconds(L, "mtime_ns", info.mtime_ns);
  set_nanoseconds(L, "ctime_ns", info.ctime_ns);
  snprintf(text, sizeof(text), "%" PRIu64 ":%" PRIu64, info.device,
           info.inode);
  lua_pushstring(L, text);
  lua_setfield(L, -2, "inode");
  lua_pushstring(L, types[info.type]);
  lua_setfield(L, -2, "type");
  return 1;
}

/* disk_free(path) -> bytes that may still be written there | nil, err */
static int l_disk_free(lua_State *L)
{
  const char *path = lsb_check_path(L, 1);
  uint64_t bytes;

  if(ls_file_free(path, &bytes))
    return lsb_fail_errno(L, "look at the space of", path, errno);
  lsb_push_uint(L, bytes < LSB_INTEGER_MAX ? bytes : LSB_INTEGER_MAX);
  return 1;
}

/* fsync(path) -> true | nil, err; a directory too */
static int l_fsync(lua_State *L)
{
  const char *path = lsb_check_path(L, 1);

  if(ls_file_sync(path))
    return lsb_fail_errno(L, "fsync", path, errno);
  lua_pushboolean(L, 1);
  return 1;
}

/* What both digest functions take: a path and {offset=, length=}. */
typedef struct range {
  const char *path;
  uint64_t offset;
  uint64_t length;
} range;

static range check_range(lua_State *L, const char *const *known)
{
  const uint64_t max = (uint64_t)LSB_INTEGER_MAX;
  range r = { lsb_check_path(L, 1), 0, max };

  if(!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    lsb_check_keys(L, 2, known);
    r.offset = lsb_field_uint(L, 2, "offset", 0, max, 0);
    r.length = lsb_field_uint(L, 2, "length", 0, max, max);
  }
  return r;
}

static unsigned flag(lua_State *L, const char *name, unsigned value)
{
  unsigned result;

  lsb_get(L, 2, name);
  result = lua_toboolean(L, -1) ? value : 0;
  lua_pop(L, 1);
  return result;
}

static ls_code digest_range(const range *r, ls_digest *d, unsigned wanted,
                            int *error)
{
  void *buffer = ls_file_buffer();
  int fd = -1;
  ls_code code = ls_digest_init(d, wanted);

  if(!code && !buffer)
    code = LS_ENOMEM;
  if(!code)
    code = ls_file_open(r->path, &fd);
  if(!code)
    code = ls_file_digest(fd, r->offset, r->length, d, buffer);
  *error = errno;
  if(!code)
    code = ls_digest_final(d);
  if(fd >= 0)
    ls_file_close(fd);
  ls_digest_free(d);
  free(buffer);
  return code;
}

/* digest_file(path, {offset=, length=, md5=, sha1=, sha256=, crc32c=, crc32=,
 * crc64nvme=}) -> {bytes=, md5=raw, sha1=raw, sha256=raw, crc32c=integer,
 * crc32=integer, crc64nvme=raw} | nil, err */
static int l_digest_file(lua_State *L)
{
  static const char *const known[] = { "offset", "length", "md5", "sha1",
    "sha256", "crc32c", "crc32", "crc64nvme", NULL };
  range r = check_range(L, known);
  unsigned wanted = 0;
  ls_digest d;
  int error;

  if(lua_istable(L, 2)) {
    wanted = flag(L, "md5", LS_DIGEST_MD5) |
             flag(L, "sha1", LS_DIGEST_SHA1) |
             flag(L, "sha256", LS_DIGEST_SHA256) |
             flag(L, "crc32c", LS_DIGEST_CRC32C) |
             flag(L, "crc32", LS_DIGEST_CRC32) |
             flag(L, "crc64nvme", LS_DIGEST_CRC64NVME);
  }
  switch(digest_range(&r, &d, wanted, &error)) {
  case LS_OK:
    break;
  case LS_EIO:
    return lsb_fail_errno(L, "read", r.path, error);
  case LS_ECRYPTO:
    return lsb_fail(L, "unsupported", "OpenSSL here refuses MD5 or SHA-1");
  default:
    return luaL_error(L, "not enough memory");
  }
  lua_createtable(L, 0, 5);
  lsb_push_uint(L, d.bytes);
  lua_setfield(L, -2, "bytes");
  if(wanted & LS_DIGEST_CRC32C) {
    lsb_push_uint(L, d.crc32c);
    lua_setfield(L, -2, "crc32c");
  }
  if(wanted & LS_DIGEST_CRC32) {
    lsb_push_uint(L, d.crc32);
    lua_setfield(L, -2, "crc32");
  }
  if(wanted & LS_DIGEST_CRC64NVME) {
    char raw[8]; /* most significant byte first: more than a double holds */
    int i;

    for(i = 0; i < 8; i++)
      raw[i] = (char)(d.crc64nvme >> (56 - 8 * i));
    lua_pushlstring(L, raw, sizeof(raw));
    lua_setfield(L, -2, "crc64nvme");
  }
  if(wanted & LS_DIGEST_MD5) {
    lua_pushlstring(L, (const char *)d.md5, sizeof(d.md5));
    lua_setfield(L, -2, "md5");
  }
  if(wanted & LS_DIGEST_SHA1) {
    lua_pushlstring(L, (const char *)d.sha1, sizeof(d.sha1));
    lua_setfield(L, -2, "sha1");
  }
  if(wanted & LS_DIGEST_SHA256) {
    lua_pushlstring(L, (const char *)d.sha256, sizeof(d.sha256));
    lua_setfield(L, -2, "sha256");
  }
  return 1;
}

/* crc32c_file(path [, {offset=, length=, threads=}]) -> crc, bytes | nil, err
 * Two threads by default where that pays. */
static int l_crc32c_file(lua_State *L)
{
  static const char *const known[] = { "offset", "length", "threads", NULL };
  range r = check_range(L, known);
  unsigned threads = 0;
  uint32_t crc;
  uint64_t got;

  if(lua_istable(L, 2))
    threads = (unsigned)lsb_field_uint(L, 2, "threads", 1,
                                       LST_CHECKSUM_THREADS_MAX, 0);
  switch(lst_crc32c_file(r.path, r.offset, r.length, threads, &crc, &got)) {
  case LS_OK:
    lsb_push_uint(L, crc);
    lsb_push_uint(L, got);
    return 2;
  case LS_EIO:
    return lsb_fail_errno(L, "read", r.path, errno);
  default:
    return luaL_error(L, "not enough memory");
  }
}

void lsb_open_file(lua_State *L)
{
  static const luaL_Reg funcs[] = {
    { "file_stat", l_file_stat },
    { "fsync", l_fsync },
    { "disk_free", l_disk_free },
    { "digest_file", l_digest_file },
    { "crc32c_file", l_crc32c_file },
    { NULL, NULL }
  };

  lsb_setfuncs(L, funcs);
}
