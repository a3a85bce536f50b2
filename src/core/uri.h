/* Percent-encoding by S3's rules. Room: src/core.
 *
 * Only A-Z a-z 0-9 - . _ ~ stand for themselves; every other byte becomes %XX
 * in upper case. This is the one place that encodes.
 */
#ifndef LS_URI_H
#define LS_URI_H

#include "buf.h"

/* Appends the encoded form; with `keep_slash` a slash stands for itself, as
 * in the path of an object. */
void ls_uri_encode(ls_buf *to, ls_str s, bool keep_slash);

/* Writes at most s.n bytes to `to` and their number to *written; LS_EPARSE
 * for a percent sign without two hexadecimal digits behind it. */
LS_MUST_CHECK ls_code ls_uri_decode(char *to, size_t *written, ls_str s,
                                    bool plus_is_space);

/* Appends what ls_uri_decode and then ls_uri_encode would give: the one
 * canonical form of a text that somebody else encoded. */
LS_MUST_CHECK ls_code ls_uri_recode(ls_buf *to, ls_str s, bool keep_slash,
                                    bool plus_is_space);

#endif
