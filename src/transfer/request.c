/* Libcurl's options and callbacks: how a job looks to libcurl.
 * Room: src/transfer. */
#include "internal.h"
#include "../core/crc32c.h"

#include <string.h>

/* Not enough budget now: libcurl stops asking until the loop says go on. */
static void pause_job(lst_slot *slot)
{
  /* Both ways can wait at once: for an answer to a request that waits. */
  if(!slot->job->paused)
    slot->loop->paused++;
  slot->job->paused = slot->job->throttled = true;
}

static size_t on_read(char *to, size_t size, size_t count, void *arg)
{
  lst_slot *slot = arg;
  lst_job *job = slot->job;
  uint64_t left = job->length - job->position;
  size_t n = size * count;

  if(n > left)
    n = (size_t)left;
  if(!n)
    return 0;
  n = lst_rate_take(&slot->loop->engine->rate, n, lst_now());
  if(!n) {
    pause_job(slot);
    return CURL_READFUNC_PAUSE;
  }
  if(job->body == LST_BODY_BYTES)
    memcpy(to, job->bytes + job->position, n);
  else if(lst_source_read(&job->source, job->position, to, n, &job->error)
          != LS_OK)
    return CURL_READFUNC_ABORT;
  if(job->checksum)
    job->crc32c = ls_crc32c(job->crc32c, to, n);
  job->position += n;
  return n;
}

/* The request starts over, because a kept-alive connection died before an
 * answer came: so does its checksum. Where repeating could do a thing twice
 * that is left to the caller. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
  lst_slot *slot = arg;
  const char *method = slot->job->method;

  if(origin != SEEK_SET || offset ||
     !strcmp(method, "POST") || !strcmp(method, "PATCH"))
    return CURL_SEEKFUNC_FAIL;
  slot->job->position = 0;
  slot->job->crc32c = 0;
  lst_answer_reset(&slot->job->answer);
  return CURL_SEEKFUNC_OK;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
  lst_slot *slot = arg;
  lst_job *job = slot->job;
  size_t n = size * count;
  ls_code code = lst_answer_line(&job->answer, line, n);

  if(job->first_byte <= 0)
    job->first_byte = lst_now() - job->started_at;
  /* Whatever a server sends acknowledges all that it has received. So bytes
   * that still wait now were not there when it decided on its answer. */
  if(n > 5 && !memcmp(line, "HTTP/", 5) && !job->answer.complete)
    job->early = job->position < job->length || lst_tls_holds(job) ||
      lst_socket_waiting(job) > 0;
  if(code == LS_OK)
    return n;
  if(code == LS_ELIMIT)
    lst_error_set(&job->error, "too_large", false,
                  "the headers of the answer are longer than %d bytes",
                  LST_MAX_HEADERS_BYTES);
  else if(code == LS_ENOMEM)
    lst_error_set(&job->error, "internal", true, "out of memory");
  else
    lst_error_set(&job->error, "network", true,
                  "the answer is not an HTTP answer");
  return n + 1;
}

static bool write_file(lst_job *job, const char *data, size_t n)
{
  if(job->has_sink_length && n > job->sink_length - job->sink_position) {
    lst_error_set(&job->error, "too_large", false,
                  "the answer is longer than the %llu bytes expected",
                  (unsigned long long)job->sink_length);
    return false;
  }
  if(job->sink.fd < 0 && lst_sink_open(&job->sink, &job->error) != LS_OK)
    return false;
  if(lst_sink_write(&job->sink, job->sink_position, data, n, &job->error)
     != LS_OK)
    return false;
  job->sink_position += n;
  return true;
}

static size_t on_write(char *data, size_t size, size_t count, void *arg)
{
  lst_slot *slot = arg;
  lst_job *job = slot->job;
  size_t n = size * count;

  if(!lst_rate_accept(&slot->loop->engine->rate, n, lst_now())) {
    pause_job(slot);
    return CURL_WRITEFUNC_PAUSE;
  }
  if(job->has_sink && job->answer.status >= 200 && job->answer.status < 300) {
    if(!write_file(job, data, n))
      return n + 1;
  }
  else {
    ls_code code;

    ls_buf_add(&job->answer.body, data, n);
    code = ls_buf_code(&job->answer.body);
    if(code == LS_ELIMIT)
      lst_error_set(&job->error, "too_large", false,
                    "the body of the answer is longer than %zu bytes",
                    job->answer.body.ceiling);
    else if(code != LS_OK)
      lst_error_set(&job->error, "internal", true, "out of memory");
    if(code != LS_OK)
      return n + 1;
  }
  job->received_crc32c = ls_crc32c(job->received_crc32c, data, n);
  return n;
}

/* Libcurl takes 0 for no limit, or one of its own. */
static long milliseconds(double seconds)
{
  return seconds > 0 && seconds < 0.001 ? 1 : (long)(seconds * 1000);
}

#define SET(option, value) \
  do { \
    if(curl_easy_setopt(easy, option, value) != CURLE_OK) \
      return LS_ENOMEM; \
  } while(0)

static ls_code set_security(CURL *easy, const lst_options *o)
{
#if LIBCURL_VERSION_NUM >= 0x075500
  SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
  SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
  SET(CURLOPT_FOLLOWLOCATION, 0L);
  SET(CURLOPT_SSL_VERIFYPEER, 1L);
  SET(CURLOPT_SSL_VERIFYHOST, 2L);
  SET(CURLOPT_PROXY_SSL_VERIFYPEER, 1L);
  SET(CURLOPT_PROXY_SSL_VERIFYHOST, 2L);
  SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  if(o->ca_file) {
    SET(CURLOPT_CAINFO, o->ca_file);
    SET(CURLOPT_PROXY_CAINFO, o->ca_file);
    /* A private CA replaces the system's, it does not join them. */
    if(!o->ca_path)
      SET(CURLOPT_CAPATH, (char *)NULL);
  }
  if(o->ca_path) {
    SET(CURLOPT_CAPATH, o->ca_path);
    SET(CURLOPT_PROXY_CAPATH, o->ca_path);
    if(!o->ca_file)
      SET(CURLOPT_CAINFO, (char *)NULL);
  }
  if(o->proxy)
    SET(CURLOPT_PROXY, o->proxy);
  return LS_OK;
}

ls_code lst_slot_setup(lst_slot *slot)
{
  CURL *easy = slot->easy;
  const lst_options *o = &slot->loop->engine->options;

  SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
  /* Cancelling and closing do not wait for a name that is being looked up. */
  SET(CURLOPT_QUICK_EXIT, 1L);
#endif
  SET(CURLOPT_ERRORBUFFER, slot->why);
  SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  SET(CURLOPT_PATH_AS_IS, 1L);
  SET(CURLOPT_TRANSFER_ENCODING, 0L);
  SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  SET(CURLOPT_TCP_KEEPALIVE, 1L);
  SET(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(o->connect_timeout));
  SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)o->buffer);
  if(o->user_agent)
    SET(CURLOPT_USERAGENT, o->user_agent);
  SET(CURLOPT_READFUNCTION, on_read);
  SET(CURLOPT_READDATA, slot);
  SET(CURLOPT_SEEKFUNCTION, on_seek);
  SET(CURLOPT_SEEKDATA, slot);
  SET(CURLOPT_HEADERFUNCTION, on_header);
  SET(CURLOPT_HEADERDATA, slot);
  SET(CURLOPT_WRITEFUNCTION, on_write);
  SET(CURLOPT_WRITEDATA, slot);
  SET(CURLOPT_BUFFERSIZE, (long)LST_RECEIVE_BUFFER);
  SET(CURLOPT_PRIVATE, slot);
  if(lst_socket_setup(slot) != LS_OK)
    return LS_ENOMEM;
  return set_security(easy, o);
}

ls_code lst_request_setup(lst_slot *slot, lst_job *job)
{
  CURL *easy = slot->easy;
  bool has_body = job->body != LST_BODY_NONE ||
    !strcmp(job->method, "PUT") || !strcmp(job->method, "POST") ||
    !strcmp(job->method, "PATCH");

  slot->why[0] = 0;
  SET(CURLOPT_NOBODY, 0L);
  /* Every body goes the way of an upload: POST of libcurl's own would add a
   * Content-Type. */
  if(has_body) {
    SET(CURLOPT_UPLOAD, 1L);
    SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)job->length);
  }
  else {
    SET(CURLOPT_HTTPGET, 1L);
    if(!strcmp(job->method, "HEAD"))
      SET(CURLOPT_NOBODY, 1L);
  }
  SET(CURLOPT_CUSTOMREQUEST, job->method);
  SET(CURLOPT_URL, job->url);
  SET(CURLOPT_HTTPHEADER, job->headers);
  SET(CURLOPT_TIMEOUT_MS, milliseconds(job->timeout));
  SET(CURLOPT_FRESH_CONNECT, job->fresh ? 1L : 0L);
  return LS_OK;
}
