/* The binding with an allocator that fails: for each script, the first
 * allocation fails, then the second, and so on until the script gets through.
 * Lua's own allocations and those of our C code count alike. Whatever fails,
 * the only outcome is "not enough memory", nothing leaks (the sanitizers
 * look), and the same Lua state runs the script again to its end.
 */
#include "../check.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>

int luaopen_longshore_core(lua_State *L);

/* Allocations until one fails; 0: none does. */
static unsigned long until_failure;
static bool failed;

static bool fails(void)
{
  if(!until_failure || --until_failure)
    return false;
  failed = true;
  return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
  return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
  return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
  return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
  return fails() ? NULL : __real_aligned_alloc(align, n);
}

static void *allocate(void *ud, void *p, size_t old, size_t n)
{
  (void)ud;
  if(!n) {
    free(p);
    return NULL;
  }
  /* Lua relies on shrinking not to fail. */
  if((!p || n > old) && fails())
    return NULL;
  return __real_realloc(p, n);
}

static const char prelude[] =
  "local core = core\n"
  "local signer = core.signer{access_key='A', secret_key='S',\n"
  "  session_token='T', region='r'}\n"
  "local request = {method='PUT', host='h', path='/b/k', expires=60,\n"
  "  time=1767225600, query={a={'1','2'}, b=5, c=true},\n"
  "  headers={['content-length']=5}}\n"
  "local url = signer:presign(request)\n"
  "local received = {method='PUT', target=url:match('^https://h(.*)'),\n"
  "  headers={host='h', ['content-length']='5'}}\n"
  "local wanted = {secret_key='S', session_token='T', now=1767225600}\n"
  "local function fresh() return core.signer{access_key='A',\n"
  "  secret_key='S', region='r'} end\n"
  "local path = '/proc/self/exe'\n"
  /* The engine says by an error, or by a failed job, what others raise. */
  "local function must(v, err)\n"
  "  if v then return v end\n"
  "  error(err.message:find('out of memory', 1, true) and\n"
  "    'not enough memory' or tostring(err))\n"
  "end\n"
  "local function transfer(options, job)\n"
  "  local engine, over = must(core.engine(options))\n"
  "  job.url, job.method = 'http://127.0.0.1:1/x?y', 'PUT'\n"
  "  must(engine:add(job))\n"
  "  repeat\n"
  "    for _, event in ipairs(engine:step(1)) do over = event end\n"
  "  until over\n"
  "  must(over.error.code == 'network', over.error)\n"
  "  assert(engine:stats().active == 0 and tostring(engine))\n"
  "  engine:close()\n"
  "end\n";

static const char *const scripts[] = {
  "assert(fresh():presign(request))",
  "assert(signer:presign(request) == url)",
  "local h, t = signer:sign(request) assert(h.authorization and t)",
  "assert(#fresh():presign_parts{host='h', path='/k', upload_id='u',\n"
  "  expires=5, time=1, count=120, length=7, last_length=12345} == 120)",
  "assert(#fresh():presign_parts{host='h', path='/k', upload_id='u',\n"
  "  expires=5, time=1, parts={{number=1}, {number=2, length=5}}} == 2)",
  "assert(fresh():presign_parts_json{host='h', path='/k', upload_id='u',\n"
  "  expires=5, time=1, count=99}:match('^%[\".*\"%]$'))",
  "assert(#fresh():presign_parts_json{host='h', path='/k', upload_id='u',\n"
  "  expires=5, time=1, count=990, pieces=true} > 1)",
  "assert(fresh():parts{host='h', path='/k', expires=5, time=1}:url(7))",
  "local u, e = fresh():presign{method='GET', host='h', path='k',\n"
  "  expires=5} assert(u == nil and e.field == 'path', e)",
  "assert(core.sigv4_verify(received, wanted))",
  "assert(core.sigv4_parse(received).access_key == 'A')",
  "local ok, e = core.sigv4_verify(received, {secret_key='X',\n"
  "  session_token='T', now=1767225600})\n"
  "assert(not ok and e.canonical_request and e.string_to_sign, e)",
  "assert(core.crc32c_new():update('abc'):base64())",
  "assert(core.crc32c_file(path, {threads=3}))",
  "assert(core.digest_file(path, {md5=true, sha256=true, length=9}).md5)",
  "assert(core.file_stat(path).size > 0)",
  "local s, e = core.file_stat('/none') assert(e.code == 'not_found', e)",
  "assert(core.uri_decode(core.uri_encode(('a/ '):rep(500))))",
  "assert(core.unbase64(core.base64(('x'):rep(1000))))",
  "assert(core.unhex(core.hex(('x'):rep(1000))))",
  "transfer({connections=2, proxy=''}, {headers={a='b'}, body='abc'})",
  "transfer({proxy='', threads=2, ca_file='/none'}, {body={path=path,\n"
  "  length=9}, output={path='/none'}})",
  "local engine = must(core.engine{proxy=''})\n"
  "local id = must(engine:add{url='http://127.0.0.1:1/'})\n"
  "assert(engine:cancel(id) and engine:step(0)[1].type == 'failed')",
  "assert(core.plan{size=100, part_size=7}.count == 15)",
  "assert(#core.md5('x') == 16 and #core.sha1('x') == 20)"
};

static bool out_of_memory(lua_State *L, int status)
{
  const char *message = lua_tostring(L, -1);

  return status == LUA_ERRMEM ||
         (message && strstr(message, "not enough memory"));
}

static void run(const char *script)
{
  lua_State *L = lua_newstate(allocate, NULL);
  unsigned long n;
  int status = -1;

  if(!check_true("a state", L != NULL))
    return;
  luaL_openlibs(L);
  lua_pushcfunction(L, luaopen_longshore_core);
  lua_call(L, 0, 1);
  lua_setglobal(L, "core");
  lua_pushfstring(L, "%s return function() %s end", prelude, script);
  if(luaL_loadstring(L, lua_tostring(L, -1)) || lua_pcall(L, 0, 1, 0)) {
    printf("%s\n", lua_tostring(L, -1));
    check_true(script, false);
    lua_close(L);
    return;
  }
  lua_remove(L, 1);
  for(n = 1; n < 100000; n++) {
    until_failure = n;
    failed = false;
    lua_pushvalue(L, 1);
    status = lua_pcall(L, 0, 0, 0);
    until_failure = 0;
    if(status && !out_of_memory(L, status)) {
      printf("allocation %lu: %s\n", n, lua_tostring(L, -1));
      check_true(script, false);
    }
    else {
      check_passed++;
    }
    if(!failed)
      break;
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    check_true("runs again", lua_pcall(L, 0, 0, 0) == LUA_OK);
    lua_settop(L, 1);
  }
  check_true(script, status == LUA_OK && !failed);
  lua_close(L);
}

/* Opening the module, too. */
static int open_it(lua_State *L)
{
  luaL_requiref(L, "longshore.core", luaopen_longshore_core, 0);
  return 0;
}

static void open_module(void)
{
  unsigned long n;

  for(n = 1; n < 100000; n++) {
    lua_State *L = lua_newstate(allocate, NULL);
    int status;

    if(!check_true("a state", L != NULL))
      return;
    lua_pushcfunction(L, open_it);
    until_failure = n;
    failed = false;
    status = lua_pcall(L, 0, 0, 0);
    until_failure = 0;
    if(status)
      check_true("open", out_of_memory(L, status));
    lua_close(L);
    if(!failed) {
      check_true("opens at last", status == LUA_OK);
      return;
    }
  }
}

int main(void)
{
  size_t i;

  open_module();
  for(i = 0; i < sizeof(scripts) / sizeof(*scripts); i++)
    run(scripts[i]);
  return check_end();
}
