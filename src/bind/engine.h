/* What the two files of core.engine share. Room: src/bind. */
#ifndef LSB_ENGINE_H
#define LSB_ENGINE_H

#include "bind.h"

#include "../transfer/transfer.h"

#define LSB_MAX_HEADERS 128

/* Reads the job table at stack index 2 (the top). The request points into
 * strings that the stack and the table keep; raises for what is no job. */
void lsb_read_request(lua_State *L, lst_request *r, lst_header *headers);

/* A field of seconds (0 to a week), or the fallback where it is nil. */
double lsb_field_seconds(lua_State *L, int index, const char *name,
                         double fallback);

#endif
