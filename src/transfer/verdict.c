/* What a finished transfer means: an answer, or which kind of failure.
 * Room: src/transfer. */
#include "internal.h"

#include <string.h>

struct meaning {
  CURLcode result;
  const char *code;
  bool retryable;
  const char *text;
};

/* Everything not listed is a `network` failure worth another try. */
static const struct meaning meanings[] = {
  { CURLE_COULDNT_RESOLVE_PROXY, "network", true,
    "the proxy's name was not found" },
  { CURLE_COULDNT_RESOLVE_HOST, "network", true,
    "the host's name was not found" },
  { CURLE_COULDNT_CONNECT, "network", true, "no connection" },
  { CURLE_OPERATION_TIMEDOUT, "timeout", true, NULL },
  { CURLE_GOT_NOTHING, "network", true,
    "the server closed the connection without an answer" },
  { CURLE_PARTIAL_FILE, "network", true,
    "the connection ended in the middle of the answer" },
  { CURLE_SEND_ERROR, "network", true,
    "the connection broke while sending" },
  { CURLE_SEND_FAIL_REWIND, "network", true,
    "the connection broke while sending" },
  { CURLE_RECV_ERROR, "network", true,
    "the connection broke before the answer was complete" },
  { CURLE_PEER_FAILED_VERIFICATION, "tls", false,
    "the server's certificate was refused" },
  { CURLE_SSL_CACERT_BADFILE, "tls", false,
    "the file or folder of trusted certificates cannot be used" },
  { CURLE_SSL_CERTPROBLEM, "tls", false, "the client certificate failed" },
  { CURLE_SSL_CIPHER, "tls", false, "no cipher in common" },
  { CURLE_SSL_ISSUER_ERROR, "tls", false, "the issuer check failed" },
  { CURLE_SSL_CRL_BADFILE, "tls", false, "the revocation list failed" },
  { CURLE_SSL_ENGINE_NOTFOUND, "tls", false, "TLS is not usable" },
  { CURLE_SSL_ENGINE_SETFAILED, "tls", false, "TLS is not usable" },
  { CURLE_USE_SSL_FAILED, "tls", false, "TLS is not usable" },
  { CURLE_SSL_CONNECT_ERROR, "tls", true, "the TLS handshake failed" },
  { CURLE_URL_MALFORMAT, "invalid", false, "the URL is not well formed" },
  /* The scheme was checked before; this is an answer without status line. */
  { CURLE_UNSUPPORTED_PROTOCOL, "network", true,
    "the answer is not an HTTP answer" },
  { CURLE_OUT_OF_MEMORY, "internal", true, "out of memory" },
  { CURLE_FILESIZE_EXCEEDED, "too_large", false, "the answer is too large" },
  { CURLE_WEIRD_SERVER_REPLY, "network", true,
    "the answer is not an HTTP answer" },
  { CURLE_OK, NULL, false, NULL }
};

static double seconds(CURL *easy, CURLINFO info)
{
  curl_off_t us = 0;

  if(curl_easy_getinfo(easy, info, &us) != CURLE_OK)
    return 0;
  return (double)us / 1e6;
}

static void timeout_error(lst_job *job, const lst_options *o)
{
  double limit = o->connect_timeout;

  if(job->timeout > 0 && job->timeout < limit)
    limit = job->timeout;
  if(!job->requested)
    lst_error_set(&job->error, "timeout", true,
                  "no connection within %g seconds: %s", limit, job->target);
  else
    lst_error_set(&job->error, "timeout", true,
                  "not finished within %g seconds: %s", job->timeout,
                  job->target);
}

static void curl_error(lst_slot *slot, lst_job *job, CURLcode result)
{
  const struct meaning *m = meanings;
  const char *detail = slot->why[0] ? slot->why : curl_easy_strerror(result);

  if(result == CURLE_OPERATION_TIMEDOUT) {
    timeout_error(job, &slot->loop->engine->options);
    return;
  }
  while(m->code && m->result != result)
    m++;
  lst_error_set(&job->error, m->code ? m->code : "network",
                m->code ? m->retryable : true, "%s (%s): %s",
                m->text ? m->text : "the transfer failed", detail,
                job->target);
}

/* Whether the failure came after a final answer that explains it: the server
 * refused the request, perhaps before it had the whole body, and hung up. What
 * is missing of such an answer's body matters less than its status. */
static bool refused(const lst_job *job, CURLcode result)
{
  if(result != CURLE_SEND_ERROR && result != CURLE_RECV_ERROR &&
     result != CURLE_PARTIAL_FILE && result != CURLE_GOT_NOTHING)
    return false;
  return job->answer.complete && job->answer.status >= 300;
}

static ls_code finish_sink(lst_job *job)
{
  if(job->sink.fd < 0 && lst_sink_open(&job->sink, &job->error) != LS_OK)
    return LS_EIO;
  return lst_sink_close(&job->sink, &job->error);
}

void lst_verdict(lst_slot *slot, lst_job *job, CURLcode result)
{
  CURL *easy = slot->easy;
  curl_off_t moved = 0;
  double tls = seconds(easy, CURLINFO_APPCONNECT_TIME_T);

  if(curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &moved) == CURLE_OK)
    atomic_store(&job->sent, (uint64_t)moved);
  if(curl_easy_getinfo(easy, CURLINFO_SIZE_DOWNLOAD_T, &moved) == CURLE_OK)
    atomic_store(&job->received, (uint64_t)moved);
  if(job->salvaged)
    atomic_store(&job->received, (uint64_t)job->answer.body.size);
  job->connect = tls > 0 ? tls : seconds(easy, CURLINFO_CONNECT_TIME_T);
  job->total = lst_now() - job->started_at;

  if(!job->error.code && result != CURLE_OK &&
     !refused(job, result))
    curl_error(slot, job, result);
  else if(!job->error.code && job->answer.status < 300 &&
          (job->early || atomic_load(&job->sent) < job->length))
    lst_error_set(&job->error, "network", true,
                  "the server answered %d before it had the whole body: %s",
                  job->answer.status, job->target);
  else if(!job->error.code && !job->answer.complete)
    lst_error_set(&job->error, "network", true,
                  "the answer is not an HTTP answer: %s", job->target);
  if(!job->error.code && job->has_sink && job->answer.status >= 200 &&
     job->answer.status < 300 && finish_sink(job) != LS_OK)
    job->failed = true;
  if(job->error.code)
    job->failed = true;
}
