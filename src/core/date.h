/* Moments as text. Room: src/core.
 *
 * Seconds since 1970 in UTC, from 1970 to 9999; no time zones, no locale, no
 * library calls.
 */
#ifndef LS_DATE_H
#define LS_DATE_H

#include "str.h"

#define LS_DATE_MAX ((uint64_t)253402300799) /* the last second of 9999 */
#define LS_DATE_SIZE 16

/* 20260131T235959Z; the first eight characters are the day. `time` is at most
 * LS_DATE_MAX. */
void ls_date_write(char to[LS_DATE_SIZE], uint64_t time);

/* Reads exactly that form. */
LS_MUST_CHECK ls_code ls_date_read(ls_str text, uint64_t *time);

/* Reads HTTP's preferred form: Sun, 06 Nov 1994 08:49:37 GMT. */
LS_MUST_CHECK ls_code ls_date_read_http(ls_str text, uint64_t *time);

#endif
