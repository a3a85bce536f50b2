/* What the two bindings of signing share. Room: src/bind. */
#ifndef LSB_SIGNER_H
#define LSB_SIGNER_H

#include "bind.h"
#include "../core/run.h"

#define LSB_SIGNER "longshore.signer"

/* The userdata: a signer, and the memory of its runs once there was one. */
typedef struct lsb_signer {
  ls_signer *core;
  ls_run *run;
} lsb_signer;

lsb_signer *lsb_check_signer(lua_State *L);

/* nil and an error for a code of the signer's; raises for LS_ENOMEM. */
int lsb_signer_fail(lua_State *L, const ls_signer *s, ls_code code);

/* Argument 2 is the table that describes a request. These read from it: the
 * target (with a default method, or NULL), the time (default: now), and the
 * query and headers, which go into the signer. */
ls_target lsb_read_target(lua_State *L, const char *method);
uint64_t lsb_field_time(lua_State *L);
void lsb_signer_begin(lua_State *L, ls_signer *s);

#endif
