/* The answer to a request: status, headers, body, from untrusted bytes.
 *
 * Room: src/transfer. Header lines come one by one, as libcurl hands them on,
 * or as the raw bytes left in the socket of a connection whose sending side
 * broke (`lst_answer_salvage`). Everything has a ceiling.
 */
#ifndef LST_ANSWER_H
#define LST_ANSWER_H

#include "../core/buf.h"

#include <stdbool.h>

#define LST_MAX_HEADERS_BYTES 131072
#define LST_MAX_SALVAGED (1u << 30)

typedef struct lst_answer {
  int status;         /* of the last status line; 0: none yet */
  bool complete;      /* the headers of the final answer are all here */
  ls_buf headers; /* name NUL value NUL ..., names in lower case */
  ls_buf body;
} lst_answer;

void lst_answer_init(lst_answer *a, size_t max_body);
void lst_answer_free(lst_answer *a);

/* Forgets what came so far, for a request that is sent again. */
void lst_answer_reset(lst_answer *a);

/* Takes one line, with or without its line end. A status line starts a new
 * block (an interim 1xx answer goes before the final one); the empty line
 * ends it. After the final block everything is ignored (trailers). Lines
 * that are no header are ignored, as are folded ones. LS_ELIMIT when the
 * headers are too long, LS_EPARSE for a status line that is none. */
LS_MUST_CHECK
ls_code lst_answer_line(lst_answer *a, const char *line, size_t n);

/* The value of a header by its lower-case name, or NULL. */
const char *lst_answer_header(const lst_answer *a, const char *name);

/* Reads a whole answer from raw bytes, to the end of what is there: its body
 * may be cut. LS_EPARSE when there is no complete header block of a final
 * answer; `a` is reset then. */
LS_MUST_CHECK
ls_code lst_answer_salvage(lst_answer *a, const char *data, size_t n);

/* Appends raw bytes that follow what is already there of the body of a
 * complete header block; what does not belong to it is left out. */
LS_MUST_CHECK
ls_code lst_answer_more(lst_answer *a, const char *data, size_t n);

#endif
