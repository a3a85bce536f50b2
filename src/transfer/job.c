/* A job from a request: everything is checked and copied here, once.
 * Room: src/transfer. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static char *copy(const char *text, size_t n)
{
  char *c = malloc(n + 1);

  if(c) {
    if(n)
      memcpy(c, text, n);
    c[n] = 0;
  }
  return c;
}

static char lower(char c)
{
  return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool name_is(const lst_header *h, const char *name)
{
  size_t i;

  for(i = 0; i < h->name_length; i++)
    if(!name[i] || lower(h->name[i]) != name[i])
      return false;
  return !name[i];
}

static bool is_token(const char *text, size_t n)
{
  size_t i;

  for(i = 0; i < n; i++) {
    char c = lower(text[i]);

    if(!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
         (c && strchr("!#$%&'*+-.^_`|~", c))))
      return false;
  }
  return n > 0;
}

/* The value of a decimal number, or false. */
static bool decimal(const char *text, size_t n, uint64_t *value)
{
  size_t i;

  *value = 0;
  for(i = 0; i < n; i++) {
    if(text[i] < '0' || text[i] > '9' || *value > UINT64_MAX / 10 - 1)
      return false;
    *value = *value * 10 + (uint64_t)(text[i] - '0');
  }
  return n > 0;
}

static const char *check_method(const lst_request *r)
{
  if(!is_token(r->method, r->method_length) || r->method_length > 32)
    return "method: letters such as PUT expected";
  if(r->method_length == 4 && !memcmp(r->method, "HEAD", 4) &&
     r->body != LST_BODY_NONE)
    return "method: HEAD takes no body";
  if(r->method_length == 7 && !memcmp(r->method, "CONNECT", 7))
    return "method: CONNECT is not supported";
  return NULL;
}

static const char *check_url(const lst_request *r)
{
  const char *p = r->url;
  size_t n = r->url_length;
  size_t i;
  size_t scheme = 0;

  while(scheme < n && p[scheme] != ':')
    scheme++;
  if(!((scheme == 4 || (scheme == 5 && lower(p[4]) == 's')) &&
       lower(p[0]) == 'h' && lower(p[1]) == 't' && lower(p[2]) == 't' &&
       lower(p[3]) == 'p' && n > scheme + 3 &&
       p[scheme + 1] == '/' && p[scheme + 2] == '/'))
    return "url: one that begins with http:// or https:// expected";
  if(n > 65535)
    return "url: longer than 65535 bytes";
  for(i = scheme + 3; i < n; i++) {
    if((unsigned char)p[i] <= 0x20 || (unsigned char)p[i] >= 0x7f)
      return "url: spaces, control characters and non-ASCII bytes must be "
        "percent-encoded";
    if(p[i] == '#')
      return "url: a fragment (#...) cannot be sent";
  }
  for(i = scheme + 3; i < n && p[i] != '/' && p[i] != '?'; i++)
    if(p[i] == '@')
      return "url: a user name or password in it is not supported";
  return NULL;
}

/* One header into the list. libcurl's notation: "Name: value", and "Name;"
 * for one without a value. */
static ls_code add_header(lst_job *job, const lst_header *h, const char **why)
{
  char line[16384];
  struct curl_slist *longer;
  uint64_t length;
  size_t i;

  if(!is_token(h->name, h->name_length)) {
    *why = "headers: a name is empty or has characters that are not allowed";
    return LS_EINVAL;
  }
  if(h->name_length + h->value_length + 3 > sizeof(line)) {
    *why = "headers: one is longer than 16 KiB";
    return LS_EINVAL;
  }
  for(i = 0; i < h->value_length; i++) {
    unsigned char c = (unsigned char)h->value[i];

    if((c < 0x20 && c != '\t') || c == 0x7f) {
      *why = "headers: a value has control characters";
      return LS_EINVAL;
    }
  }
  if(name_is(h, "content-length")) {
    /* libcurl writes it; a given one may only say the same. */
    if(decimal(h->value, h->value_length, &length) && length == job->length)
      return LS_OK;
    *why = "headers: Content-Length is not the length of the body";
    return LS_EINVAL;
  }
  if(name_is(h, "transfer-encoding")) {
    *why = "headers: Transfer-Encoding is not supported, bodies have a length";
    return LS_EINVAL;
  }
  memcpy(line, h->name, h->name_length);
  i = h->name_length;
  if(h->value_length) {
    line[i++] = ':';
    line[i++] = ' ';
    memcpy(line + i, h->value, h->value_length);
    i += h->value_length;
  }
  else
    line[i++] = ';';
  line[i] = 0;
  longer = curl_slist_append(job->headers, line);
  if(!longer)
    return LS_ENOMEM;
  job->headers = longer;
  return LS_OK;
}

static ls_code add_headers(lst_job *job, const lst_request *r,
                           const char **why)
{
  /* What libcurl would add by itself goes out only when the job says so. */
  static const char *const quiet[] = { "expect", "accept", NULL };
  static const char *const off[] = { "Expect:", "Accept:" };
  size_t i;
  int q;

  for(i = 0; i < r->header_count; i++) {
    ls_code code = add_header(job, &r->headers[i], why);

    if(code != LS_OK)
      return code;
  }
  for(q = 0; quiet[q]; q++) {
    struct curl_slist *longer;

    for(i = 0; i < r->header_count; i++)
      if(name_is(&r->headers[i], quiet[q]))
        break;
    if(i < r->header_count)
      continue;
    longer = curl_slist_append(job->headers, off[q]);
    if(!longer)
      return LS_ENOMEM;
    job->headers = longer;
  }
  return LS_OK;
}

static ls_code copy_request(lst_job *job, const lst_request *r)
{
  size_t n = 0;

  while(n < r->url_length && r->url[n] != '?')
    n++;
  job->method = copy(r->method, r->method_length);
  job->url = copy(r->url, r->url_length);
  job->target = copy(r->url, n);
  if(!job->method || !job->url || !job->target)
    return LS_ENOMEM;
  if(r->body == LST_BODY_BYTES) {
    job->bytes = copy(r->bytes, (size_t)r->length);
    if(!job->bytes)
      return LS_ENOMEM;
  }
  if(r->body == LST_BODY_FILE) {
    job->source.path = copy(r->path, strlen(r->path));
    if(!job->source.path)
      return LS_ENOMEM;
  }
  if(r->output_path) {
    job->sink.path = copy(r->output_path, strlen(r->output_path));
    if(!job->sink.path)
      return LS_ENOMEM;
  }
  return LS_OK;
}

static void copy_numbers(lst_job *job, const lst_options *defaults,
                         const lst_request *r)
{
  job->body = r->body;
  job->length = r->body == LST_BODY_NONE ? 0 : r->length;
  job->source.offset = r->offset;
  job->source.length = r->length;
  job->source.has_size = r->has_size;
  job->source.size = r->size;
  job->source.has_mtime = r->has_mtime;
  job->source.mtime_ns = r->mtime_ns;
  job->has_sink = r->output_path != NULL;
  job->sink.offset = r->output_offset;
  job->has_sink_length = r->has_output_length;
  job->sink_length = r->output_length;
  job->timeout = r->timeout;
  job->stall_seconds = r->has_stall_seconds ? r->stall_seconds :
    defaults->stall_seconds;
  job->stall_bytes = r->has_stall_bytes ? r->stall_bytes :
    defaults->stall_bytes;
  job->checksum = r->checksum;
  job->fresh = r->fresh;
}

ls_code lst_job_new(const lst_options *defaults, const lst_request *r,
                    lst_job **out, const char **why)
{
  lst_job *job;
  ls_code code;

  *why = check_method(r);
  if(!*why)
    *why = check_url(r);
  if(!*why && (r->length > INT64_MAX || r->offset > INT64_MAX - r->length))
    *why = "body: offset and length are too large";
  if(!*why && r->output_path && r->output_offset > INT64_MAX)
    *why = "output: the offset is too large";
  if(!*why && !(r->timeout >= 0 && r->timeout <= LST_MAX_SECONDS))
    *why = "timeout: more than a week";
  if(*why)
    return LS_EINVAL;
  job = calloc(1, sizeof(*job));
  if(!job)
    return LS_ENOMEM;
  job->source.fd = job->sink.fd = job->fd = -1;
  lst_answer_init(&job->answer, r->has_max_response ? r->max_response :
                  defaults->max_response);
  copy_numbers(job, defaults, r);
  code = copy_request(job, r);
  if(code == LS_OK)
    code = add_headers(job, r, why);
  if(code != LS_OK) {
    lst_job_free(job);
    return code;
  }
  *out = job;
  return LS_OK;
}

void lst_job_free(lst_job *job)
{
  lst_error ignored;

  if(!job)
    return;
  lst_source_close(&job->source);
  if(lst_sink_close(&job->sink, &ignored) != LS_OK)
    ignored.code = NULL;
  lst_answer_free(&job->answer);
  curl_slist_free_all(job->headers);
  free(job->source.path);
  free(job->sink.path);
  free(job->bytes);
  free(job->method);
  free(job->url);
  free(job->target);
  free(job);
}
