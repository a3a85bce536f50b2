/* Part planning for Lua; longshore.plan makes it comfortable. Room: src/bind. */
#include "bind.h"
#include "../core/plan.h"

void lsb_open_plan(lua_State *L);

static const uint64_t most = (uint64_t)LSB_INTEGER_MAX;

static void set_uint(lua_State *L, const char *name, uint64_t value)
{
  lsb_push_uint(L, value);
  lua_setfield(L, -2, name);
}

/* plan{size=nil, part_size=, min_part=, max_part=, max_parts=, max_object=,
 * equal=} -> {part_size=, count=, last_length=, max_size=, max_part=,
 * grow_every=} | nil, err */
static int l_plan(lua_State *L)
{
  ls_limits limits;
  ls_plan plan;
  uint64_t size, preferred;

  luaL_checktype(L, 1, LUA_TTABLE);
  size = lsb_field_uint(L, 1, "size", 0, most, LS_SIZE_UNKNOWN);
  preferred = lsb_field_uint(L, 1, "part_size", 1, most, 1);
  limits.min_part = lsb_field_uint(L, 1, "min_part", 1, most, 1);
  limits.max_part = lsb_field_uint(L, 1, "max_part", 1, most, most);
  limits.max_parts = lsb_field_uint(L, 1, "max_parts", 1, INT32_MAX, 10000);
  limits.max_object = lsb_field_uint(L, 1, "max_object", 0, most, most);
  lsb_get(L, 1, "equal");
  limits.equal_parts = lua_toboolean(L, -1);
  switch(ls_plan_make(&plan, &limits, size, preferred)) {
  case LS_OK:
    break;
  case LS_ELIMIT:
    return lsb_fail(L, "too_large", "the object is larger than the store "
                    "can hold");
  default:
    return luaL_argerror(L, 1, "min_part must not exceed max_part");
  }
  lua_createtable(L, 0, 6);
  set_uint(L, "part_size", plan.part_size);
  set_uint(L, "max_size", plan.max_size);
  if(plan.count) {
    set_uint(L, "count", plan.count);
    set_uint(L, "last_length", plan.last_length);
  }
  if(plan.grow_every) {
    set_uint(L, "grow_every", plan.grow_every);
    set_uint(L, "max_part", plan.max_part);
  }
  return 1;
}

/* plan_range(plan | part_size, size | nil, number) -> offset, length |
 * nil, err */
static int l_plan_range(lua_State *L)
{
  ls_plan plan = { 0, most, 0, 0, 0, 0 };
  uint64_t size = LS_SIZE_UNKNOWN, number, offset, length;

  if(lua_istable(L, 1)) {
    plan.part_size = lsb_field_uint(L, 1, "part_size", 1, most, 0);
    plan.grow_every = lsb_field_uint(L, 1, "grow_every", 1, INT32_MAX, 0);
    plan.max_part = lsb_field_uint(L, 1, "max_part", 1, most, most);
    luaL_argcheck(L, plan.part_size, 1, "a plan has a part_size");
  }
  else {
    plan.part_size = lsb_check_uint(L, 1, 1, most);
  }
  if(!lua_isnoneornil(L, 2))
    size = lsb_check_uint(L, 2, 0, most);
  number = lsb_check_uint(L, 3, 0, most);
  if(ls_plan_range(&plan, size, number, &offset, &length) ||
     offset > most || length > most - offset)
    return lsb_fail(L, "invalid", "the object has no such part");
  lsb_push_uint(L, offset);
  lsb_push_uint(L, length);
  return 2;
}

void lsb_open_plan(lua_State *L)
{
  static const luaL_Reg funcs[] = {
    { "plan", l_plan },
    { "plan_range", l_plan_range },
    { NULL, NULL }
  };

  lsb_setfuncs(L, funcs);
}
