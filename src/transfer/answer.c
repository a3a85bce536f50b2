/* Status, headers and body of an answer. Room: src/transfer. */
#include "answer.h"

#include <string.h>

void lst_answer_init(lst_answer *a, size_t max_body)
{
  memset(a, 0, sizeof(*a));
  ls_buf_init(&a->headers, LST_MAX_HEADERS_BYTES);
  ls_buf_init(&a->body, max_body);
}

void lst_answer_free(lst_answer *a)
{
  ls_buf_free(&a->headers);
  ls_buf_free(&a->body);
}

void lst_answer_reset(lst_answer *a)
{
  a->status = 0;
  a->complete = false;
  ls_buf_clear(&a->headers);
  ls_buf_clear(&a->body);
}

static bool is_digit(char c)
{
  return c >= '0' && c <= '9';
}

static char lower(char c)
{
  return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* RFC 9110 token characters: what a header's name is made of. */
static bool is_token(char c)
{
  return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') ||
    (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_blank(char c)
{
  return c == ' ' || c == '\t';
}

/* "HTTP/1.1 200 OK": one digit, or digit.digit, a space, three digits. */
static ls_code status_line(lst_answer *a, const char *line, size_t n)
{
  size_t i = 5;

  while(i < n && (is_digit(line[i]) || line[i] == '.'))
    i++;
  if(i == 5 || i + 4 > n || line[i] != ' ' || !is_digit(line[i + 1]) ||
     !is_digit(line[i + 2]) || !is_digit(line[i + 3]) ||
     (i + 4 < n && line[i + 4] != ' ') || line[i + 1] == '0')
    return LS_EPARSE;
  lst_answer_reset(a);
  a->status = (line[i + 1] - '0') * 100 + (line[i + 2] - '0') * 10 +
    (line[i + 3] - '0');
  return LS_OK;
}

static ls_code add_header(lst_answer *a, const char *line, size_t n)
{
  size_t colon = 0;
  size_t i;

  while(colon < n && is_token(line[colon]))
    colon++;
  if(!colon || colon == n || line[colon] != ':')
    return LS_OK;
  if(memchr(line, 0, n))
    return LS_OK;
  for(i = 0; i < colon; i++) {
    char c = lower(line[i]);

    ls_buf_add(&a->headers, &c, 1);
  }
  i = colon + 1;
  while(i < n && is_blank(line[i]))
    i++;
  while(n > i && is_blank(line[n - 1]))
    n--;
  ls_buf_add(&a->headers, "", 1);
  ls_buf_add(&a->headers, line + i, n - i);
  ls_buf_add(&a->headers, "", 1);
  return ls_buf_code(&a->headers);
}

ls_code lst_answer_line(lst_answer *a, const char *line, size_t n)
{
  if(a->complete)
    return LS_OK;
  if(n && line[n - 1] == '\n')
    n--;
  if(n && line[n - 1] == '\r')
    n--;
  if(n >= 5 && !memcmp(line, "HTTP/", 5))
    return status_line(a, line, n);
  if(!n) {
    a->complete = a->status >= 200;
    return LS_OK;
  }
  return a->status ? add_header(a, line, n) : LS_OK;
}

const char *lst_answer_header(const lst_answer *a, const char *name)
{
  const char *p = a->headers.data;
  const char *end;

  if(!p)
    return NULL;
  end = p + a->headers.size;
  while(p < end) {
    const char *value = p + strlen(p) + 1;

    if(!strcmp(p, name))
      return value;
    p = value + strlen(value) + 1;
  }
  return NULL;
}

/* Appends to the body, up to its ceiling: what is salvaged may be cut. */
static ls_code add_body(lst_answer *a, const char *p, size_t n)
{
  size_t room = a->body.ceiling - a->body.size;

  ls_buf_add(&a->body, p, n < room ? n : room);
  return ls_buf_code(&a->body);
}

/* Appends the data of a chunked body as far as it is there and well formed. */
static ls_code dechunk(lst_answer *a, const char *p, size_t n)
{
  while(n) {
    size_t size = 0;
    size_t digits = 0;
    const char *eol;
    ls_code code;

    for(; digits < n; digits++) {
      char c = lower(p[digits]);

      if(is_digit(c))
        size = size * 16 + (size_t)(c - '0');
      else if(c >= 'a' && c <= 'f')
        size = size * 16 + (size_t)(c - 'a') + 10;
      else
        break;
      if(digits > 7)
        return LS_OK;
    }
    eol = memchr(p, '\n', n);
    if(!digits || !eol || !size)
      return LS_OK;
    n -= (size_t)(eol + 1 - p);
    p = eol + 1;
    if(size > n)
      size = n;
    code = add_body(a, p, size);
    if(code != LS_OK)
      return code;
    p += size;
    n -= size;
    while(n && (*p == '\r' || *p == '\n')) {
      p++;
      n--;
    }
  }
  return LS_OK;
}

/* A header value that is one word, compared without case. */
static bool word_is(const char *value, const char *word)
{
  if(!value)
    return false;
  while(*word && lower(*value) == *word) {
    value++;
    word++;
  }
  return !*word && !*value;
}

ls_code lst_answer_more(lst_answer *a, const char *p, size_t n)
{
  const char *length = lst_answer_header(a, "content-length");
  uint64_t limit = 0;

  /* Where in a chunk the bytes begin is known only of the first ones. */
  if(word_is(lst_answer_header(a, "transfer-encoding"), "chunked"))
    return a->body.size ? LS_OK : dechunk(a, p, n);
  if(length) {
    for(; is_digit(*length) && limit < LST_MAX_SALVAGED; length++)
      limit = limit * 10 + (uint64_t)(*length - '0');
    limit = limit > a->body.size ? limit - a->body.size : 0;
    if(n > limit)
      n = (size_t)limit;
  }
  return add_body(a, p, n);
}

ls_code lst_answer_salvage(lst_answer *a, const char *data, size_t n)
{
  ls_code code = LS_EPARSE;

  lst_answer_reset(a);
  while(n && !a->complete) {
    const char *eol = memchr(data, '\n', n);

    if(!eol)
      break;
    code = lst_answer_line(a, data, (size_t)(eol + 1 - data));
    if(code != LS_OK)
      break;
    n -= (size_t)(eol + 1 - data);
    data = eol + 1;
  }
  if(a->complete)
    code = lst_answer_more(a, data, n);
  else if(code == LS_OK)
    code = LS_EPARSE;
  if(code != LS_OK)
    lst_answer_reset(a);
  return code;
}
