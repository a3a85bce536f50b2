/* One libcurl loop: takes jobs, lets them advance, collects their ends.
 * Room: src/transfer. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

double lst_now(void)
{
  struct timespec ts;

  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

ls_code lst_loop_init(lst_loop *loop, lst_engine *engine, unsigned index)
{
  loop->engine = engine;
  loop->index = index;
  loop->gathers = lst_tls_usable(&engine->options);
  loop->multi = curl_multi_init();
  if(!loop->multi)
    return LS_ENOMEM;
  /* Kept connections: as many as can be under way, and some for another
   * host that is asked now and then. */
  if(curl_multi_setopt(loop->multi, CURLMOPT_PIPELINING,
                       (long)CURLPIPE_NOTHING) != CURLM_OK ||
     curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS,
                       (long)engine->options.connections + 4) != CURLM_OK)
    return LS_EINVAL;
  return LS_OK;
}

/* Takes a job off its slot; its body's file is closed at once, whatever
 * becomes of its event. */
static void detach(lst_slot *slot)
{
  lst_job *job = slot->job;

  curl_multi_remove_handle(slot->loop->multi, slot->easy);
  slot->job = NULL;
  if(job->paused)
    slot->loop->paused--;
  job->paused = false;
  job->fd = -1;
  job->tls = NULL;
  lst_source_close(&job->source);
}

void lst_loop_free(lst_loop *loop)
{
  while(loop->slots) {
    lst_slot *slot = loop->slots;

    loop->slots = slot->next;
    if(slot->job)
      detach(slot);
    curl_easy_cleanup(slot->easy);
    free(slot);
  }
  if(loop->multi)
    curl_multi_cleanup(loop->multi);
  loop->multi = NULL;
  free(loop->sockets);
  loop->sockets = NULL;
}

static lst_slot *idle_slot(lst_loop *loop)
{
  lst_slot *slot;

  for(slot = loop->slots; slot; slot = slot->next)
    if(!slot->job)
      return slot;
  slot = calloc(1, sizeof(*slot));
  if(!slot)
    return NULL;
  slot->loop = loop;
  slot->easy = curl_easy_init();
  if(!slot->easy || lst_slot_setup(slot) != LS_OK) {
    curl_easy_cleanup(slot->easy);
    free(slot);
    return NULL;
  }
  slot->next = loop->slots;
  loop->slots = slot;
  atomic_fetch_add(&loop->engine->buffer_bytes,
                   loop->engine->options.buffer + LST_RECEIVE_BUFFER);
  return slot;
}

/* Starts a job; when it cannot even start it is finished as failed. */
static void start(lst_loop *loop, lst_job *job)
{
  lst_slot *slot = idle_slot(loop);
  double now = lst_now();

  if(!slot)
    lst_error_set(&job->error, "internal", true, "out of memory");
  else if(job->body == LST_BODY_FILE &&
          lst_source_open(&job->source, &job->error) != LS_OK)
    slot = NULL;
  else if(lst_request_setup(slot, job) != LS_OK) {
    lst_error_set(&job->error, "internal", true,
                  "libcurl refused an option of the request: %s",
                  job->target);
    slot = NULL;
  }
  if(slot) {
    slot->job = job;
    job->started_at = job->stall_at = now;
    job->requested = lst_socket_blind();
    if(curl_multi_add_handle(loop->multi, slot->easy) == CURLM_OK)
      return;
    slot->job = NULL;
    lst_error_set(&job->error, "internal", true, "libcurl took no request");
  }
  job->failed = true;
  lst_source_close(&job->source);
  lst_engine_finish(loop, job);
}

/* How many bytes of the body have left this machine. What waits in the socket
 * has not; and over TLS libcurl counts a buffer when all of it is encrypted,
 * so that there the bytes on the wire say more: records of 16 KiB, each 22
 * bytes longer. */
static uint64_t body_sent(lst_slot *slot)
{
  lst_job *job = slot->job;
  uint64_t waiting = lst_socket_waiting(job);
  uint64_t gone = 0;
  curl_off_t n = 0;
  long head = 0;

  if(job->tls) {
    if(curl_easy_getinfo(slot->easy, CURLINFO_REQUEST_SIZE, &head) !=
       CURLE_OK)
      head = 0;
    gone = lst_tls_sent(job);
    gone = gone > waiting ? (gone - waiting) / 16406 * 16384 : 0;
    gone = gone > (uint64_t)head ? gone - (uint64_t)head : 0;
    return gone < job->position ? gone : job->position;
  }
  if(curl_easy_getinfo(slot->easy, CURLINFO_SIZE_UPLOAD_T, &n) == CURLE_OK)
    gone = (uint64_t)n;
  return gone > waiting ? gone - waiting : 0;
}

/* Notes how far a job came: for progress, the watchdog and the totals. */
static void count(lst_slot *slot)
{
  lst_job *job = slot->job;
  curl_off_t n = 0;

  atomic_store(&job->sent, body_sent(slot));
  if(curl_easy_getinfo(slot->easy, CURLINFO_SIZE_DOWNLOAD_T, &n) == CURLE_OK)
    atomic_store(&job->received, (uint64_t)n);
}

static void fail(lst_slot *slot)
{
  lst_job *job = slot->job;

  count(slot);
  detach(slot);
  job->failed = true;
  lst_engine_finish(slot->loop, job);
}

/* The watchdog: over each stretch of stall_seconds, enough must have moved.
 * What our own bandwidth cap held back does not count as a stall. */
static bool stalled(lst_job *job, double now)
{
  uint64_t moved = atomic_load(&job->sent) + atomic_load(&job->received);
  double passed = now - job->stall_at;

  if(job->stall_seconds <= 0)
    return false;
  if(job->throttled || moved < job->stall_moved) {
    job->throttled = job->paused;
    job->stall_at = now;
    job->stall_moved = moved;
    return false;
  }
  if(passed < job->stall_seconds)
    return false;
  if((double)(moved - job->stall_moved) <
     (double)job->stall_bytes * job->stall_seconds) {
    lst_error_set(&job->error, "timeout", true,
                  "stalled: %llu bytes in %g seconds: %s",
                  (unsigned long long)(moved - job->stall_moved), passed,
                  job->target);
    return true;
  }
  job->stall_at = now;
  job->stall_moved = moved;
  return false;
}

static void tick(lst_loop *loop, double now)
{
  lst_slot *slot;
  double gap = now - loop->ticked_at;

  if(gap < LST_TICK)
    return;
  loop->ticked_at = now;
  for(slot = loop->slots; slot; slot = slot->next) {
    if(!slot->job)
      continue;
    /* A caller that does something else for a while has stalled us, not the
     * network. */
    if(gap > 4 * LST_TICK && slot->job->stall_at < now - gap)
      slot->job->stall_at += gap;
    else if(gap > 4 * LST_TICK)
      slot->job->stall_at = now;
    count(slot);
    if(stalled(slot->job, now))
      fail(slot);
  }
}

static void cancel(lst_loop *loop)
{
  lst_engine *engine = loop->engine;
  lst_slot *slot;
  bool any;

  pthread_mutex_lock(&engine->lock);
  any = engine->cancels > 0;
  pthread_mutex_unlock(&engine->lock);
  if(!any)
    return;
  for(slot = loop->slots; slot; slot = slot->next) {
    bool hit = false;

    if(!slot->job)
      continue;
    pthread_mutex_lock(&engine->lock);
    hit = slot->job->cancel;
    pthread_mutex_unlock(&engine->lock);
    if(hit)
      fail(slot);
  }
}

/* Jobs that waited for the bandwidth cap go on when there is budget. */
static void resume(lst_loop *loop, double now)
{
  lst_slot *slot;

  if(!loop->paused || lst_rate_wait(&loop->engine->rate, now) > 0)
    return;
  for(slot = loop->slots; slot; slot = slot->next) {
    lst_job *job = slot->job;

    if(!job || !job->paused)
      continue;
    job->paused = false;
    loop->paused--;
    curl_easy_pause(slot->easy, CURLPAUSE_CONT);
  }
}

/* Hands on every job that ended; true if there was one. */
static bool collect(lst_loop *loop)
{
  CURLMsg *message;
  bool any = false;
  int left;

  while((message = curl_multi_info_read(loop->multi, &left)) != NULL) {
    CURLcode result = message->data.result;
    lst_slot *slot = NULL;
    lst_job *job;
    long opened = 0;

    if(message->msg != CURLMSG_DONE ||
       curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE,
                         (char **)&slot) != CURLE_OK)
      continue;
    job = slot->job;
    if(curl_easy_getinfo(slot->easy, CURLINFO_NUM_CONNECTS, &opened) ==
       CURLE_OK && opened > 0)
      atomic_fetch_add(&loop->engine->connections_opened, (uint64_t)opened);
    lst_verdict(slot, job, result);
    detach(slot);
    lst_engine_finish(loop, job);
    any = true;
  }
  return any;
}

/* How long the loop may sleep at most. */
static double patience(lst_loop *loop, double seconds)
{
  double wait;

  if(seconds > 1000)
    seconds = 1000; /* as milliseconds it has to fit an int */
  if(loop->active && seconds > LST_TICK)
    seconds = LST_TICK;
  if(loop->paused) {
    wait = lst_rate_wait(&loop->engine->rate, lst_now());
    if(seconds > wait)
      seconds = wait;
  }
  return seconds;
}

static bool start_jobs(lst_loop *loop)
{
  lst_job *job;
  bool any = false;

  while((job = lst_engine_take(loop)) != NULL) {
    start(loop, job);
    any = true;
  }
  return any;
}

static void perform(lst_loop *loop)
{
  int running;

  curl_multi_perform(loop->multi, &running);
  lst_tls_flush(loop);
}

void lst_loop_run(lst_loop *loop, double seconds)
{
  double now = lst_now();

  cancel(loop);
  resume(loop, now);
  tick(loop, now);
  start_jobs(loop);
  perform(loop);
  if(collect(loop)) {
    /* The network is to be busy while the caller reads its events. */
    if(start_jobs(loop))
      perform(loop);
    return;
  }
  if(seconds > 0 && lst_engine_may_sleep(loop)) {
    struct curl_waitfd fds[LST_MAX_CONNECTIONS];
    unsigned n = lst_tls_waiting(loop, fds, LST_MAX_CONNECTIONS);

    seconds = patience(loop, seconds);
    curl_multi_poll(loop->multi, fds, n, (int)(seconds * 1000 + 0.999), NULL);
    lst_engine_awake(loop);
  }
}
