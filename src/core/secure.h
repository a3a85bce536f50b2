/* Secrets: wiping and comparing. Room: src/core. */
#ifndef LS_SECURE_H
#define LS_SECURE_H

#include "str.h"

/* Overwrites with zeros; the compiler does not drop it. */
void ls_wipe(void *p, size_t n);

/* Whether two strings are equal, in a time that depends on their lengths
 * only, not on where they differ. */
bool ls_equal(ls_str a, ls_str b);

#endif
