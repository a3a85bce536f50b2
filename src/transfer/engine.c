/* The engine: the queue in, the events out, the threads between.
 * Room: src/transfer. */
#include "internal.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global;

static void init_once(void)
{
  global = curl_global_init(CURL_GLOBAL_DEFAULT);
}

void lst_options_init(lst_options *o)
{
  memset(o, 0, sizeof(*o));
  o->connections = 4;
  o->threads = 1;
  o->buffer = 262144;
  o->max_response = 1048576;
  o->connect_timeout = 10;
  o->stall_seconds = 30;
  o->stall_bytes = 1024;
}

/* --- lists, all under the lock --- */

static void list_add(lst_list *l, lst_job *job)
{
  job->prev = l->last;
  job->next = NULL;
  if(l->last)
    l->last->next = job;
  else
    l->first = job;
  l->last = job;
  l->count++;
}

static void list_remove(lst_list *l, lst_job *job)
{
  if(job->prev)
    job->prev->next = job->next;
  else
    l->first = job->next;
  if(job->next)
    job->next->prev = job->prev;
  else
    l->last = job->prev;
  job->prev = job->next = NULL;
  l->count--;
}

static lst_job **hash_find(lst_engine *e, uint64_t id)
{
  lst_job **link = &e->hash[id & (e->hash_size - 1)];

  while(*link && (*link)->id != id)
    link = &(*link)->hash_next;
  return link;
}

/* Ids are handed out in sequence, so that a table as long as there are jobs
 * has chains of about one. */
static void hash_grow(lst_engine *e)
{
  size_t size = e->hash_size * 2;
  lst_job **grown = calloc(size, sizeof(*grown));
  size_t i;

  if(!grown)
    return;
  for(i = 0; i < e->hash_size; i++) {
    lst_job *job = e->hash[i];

    while(job) {
      lst_job *next = job->hash_next;
      lst_job **link = &grown[job->id & (size - 1)];

      job->hash_next = *link;
      *link = job;
      job = next;
    }
  }
  free(e->hash);
  e->hash = grown;
  e->hash_size = size;
}

static void hash_add(lst_engine *e, lst_job *job)
{
  lst_job **link;

  if(e->hash_used >= e->hash_size)
    hash_grow(e);
  link = hash_find(e, job->id);
  job->hash_next = *link;
  *link = job;
  e->hash_used++;
}

static void hash_remove(lst_engine *e, lst_job *job)
{
  lst_job **link = hash_find(e, job->id);

  *link = job->hash_next;
  e->hash_used--;
}

/* --- making and ending --- */

static char *copy(const char *text, ls_code *code)
{
  char *c = text ? strdup(text) : NULL;

  if(text && !c)
    *code = LS_ENOMEM;
  return c;
}

static bool in_range(double v, double max)
{
  return v >= 0 && v <= max;
}

static ls_code check_options(const lst_options *o)
{
  if(o->connections < 1 || o->connections > LST_MAX_CONNECTIONS ||
     o->threads < 1 || o->threads > LST_MAX_THREADS ||
     o->buffer < LST_MIN_BUFFER || o->buffer > LST_MAX_BUFFER ||
     !in_range(o->connect_timeout, 86400) || o->connect_timeout <= 0 ||
     !in_range(o->stall_seconds, 86400))
    return LS_EINVAL;
  return LS_OK;
}

ls_code lst_engine_new(const lst_options *o, lst_engine **out)
{
  lst_engine *e;
  pthread_condattr_t attr;
  ls_code code = check_options(o);
  unsigned i;

  if(code != LS_OK)
    return code;
  pthread_once(&once, init_once);
  if(global != CURLE_OK)
    return LS_ENOMEM;
  e = calloc(1, sizeof(*e));
  if(!e)
    return LS_ENOMEM;
  pthread_mutex_init(&e->lock, NULL);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&e->changed, &attr);
  pthread_condattr_destroy(&attr);
  lst_rate_init(&e->rate, o->rate_limit, lst_now());
  e->options = *o;
  e->options.ca_file = copy(o->ca_file, &code);
  e->options.ca_path = copy(o->ca_path, &code);
  e->options.user_agent = copy(o->user_agent, &code);
  e->options.proxy = copy(o->proxy, &code);
  e->connections = o->connections;
  e->next_id = 1;
  e->hash_size = 64;
  e->hash = calloc(e->hash_size, sizeof(*e->hash));
  e->progress = calloc(LST_MAX_CONNECTIONS, sizeof(*e->progress));
  e->loops = calloc(o->threads, sizeof(*e->loops));
  if(!e->hash || !e->progress || !e->loops)
    code = LS_ENOMEM;
  for(i = 0; code == LS_OK && i < o->threads; i++)
    code = lst_loop_init(&e->loops[i], e, i);
  if(code != LS_OK) {
    lst_engine_free(e);
    return code;
  }
  *out = e;
  return LS_OK;
}

static void free_list(lst_list *l)
{
  while(l->first) {
    lst_job *job = l->first;

    list_remove(l, job);
    lst_job_free(job);
  }
}

/* While libcurl works in the caller's thread, a write to a dead connection
 * must not raise SIGPIPE: it is blocked, and taken back if it came. */
typedef struct quiet {
  sigset_t before;
  bool was_pending;
} quiet;

static void quiet_begin(quiet *q)
{
  sigset_t pipe_set;
  sigset_t pending;

  sigemptyset(&pipe_set);
  sigaddset(&pipe_set, SIGPIPE);
  q->was_pending = !sigpending(&pending) && sigismember(&pending, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_set, &q->before);
}

static void quiet_end(quiet *q)
{
  static const struct timespec at_once = { 0, 0 };
  sigset_t pipe_set;

  sigemptyset(&pipe_set);
  sigaddset(&pipe_set, SIGPIPE);
  if(!q->was_pending)
    while(sigtimedwait(&pipe_set, NULL, &at_once) == -1 && errno == EINTR)
      ;
  pthread_sigmask(SIG_SETMASK, &q->before, NULL);
}

void lst_engine_free(lst_engine *e)
{
  unsigned i;
  quiet q;

  if(!e)
    return;
  pthread_mutex_lock(&e->lock);
  e->stopping = true;
  pthread_mutex_unlock(&e->lock);
  quiet_begin(&q);
  for(i = 0; e->loops && i < e->options.threads; i++)
    if(e->loops[i].running)
      curl_multi_wakeup(e->loops[i].multi);
  for(i = 0; e->loops && i < e->options.threads; i++) {
    if(e->loops[i].running)
      pthread_join(e->loops[i].thread, NULL);
    lst_loop_free(&e->loops[i]);
  }
  quiet_end(&q);
  free_list(&e->queue);
  free_list(&e->active);
  free_list(&e->finished);
  lst_job_free(e->delivered);
  free(e->loops);
  free(e->progress);
  free(e->hash);
  free((char *)e->options.ca_file);
  free((char *)e->options.ca_path);
  free((char *)e->options.user_agent);
  free((char *)e->options.proxy);
  lst_rate_free(&e->rate);
  pthread_cond_destroy(&e->changed);
  pthread_mutex_destroy(&e->lock);
  free(e);
}

/* --- the loops' side --- */

/* How many of the connections are this loop's. */
static unsigned share(const lst_engine *e, const lst_loop *loop)
{
  unsigned n = e->options.threads;

  return e->connections / n + (loop->index < e->connections % n);
}

lst_job *lst_engine_take(lst_loop *loop)
{
  lst_engine *e = loop->engine;
  lst_job *job = NULL;

  pthread_mutex_lock(&e->lock);
  if(e->queue.first && !e->stopping && loop->active < share(e, loop) &&
     e->finished.count < LST_UNREAD_MAX) {
    job = e->queue.first;
    list_remove(&e->queue, job);
    list_add(&e->active, job);
    job->state = LST_ACTIVE;
    job->loop = loop;
    loop->active++;
  }
  pthread_mutex_unlock(&e->lock);
  return job;
}

static void mark_cancelled(lst_job *job)
{
  job->failed = true;
  lst_error_set(&job->error, "cancelled", false, "cancelled: %s",
                job->target);
}

void lst_engine_finish(lst_loop *loop, lst_job *job)
{
  lst_engine *e = loop->engine;

  pthread_mutex_lock(&e->lock);
  if(job->cancel) {
    e->cancels--;
    mark_cancelled(job);
  }
  list_remove(&e->active, job);
  list_add(&e->finished, job);
  job->state = LST_FINISHED;
  loop->active--;
  atomic_fetch_add(&e->bytes_sent, atomic_load(&job->sent));
  atomic_fetch_add(&e->bytes_received, atomic_load(&job->received));
  pthread_cond_signal(&e->changed);
  pthread_mutex_unlock(&e->lock);
}

static void *run_thread(void *arg)
{
  lst_loop *loop = arg;
  lst_engine *e = loop->engine;
  bool stop = false;

  while(!stop) {
    lst_loop_run(loop, 1);
    pthread_mutex_lock(&e->lock);
    stop = e->stopping;
    pthread_mutex_unlock(&e->lock);
  }
  return NULL;
}

/* Threads begin with the first job and take no signals. Where one cannot be
 * made the add fails, and the next one tries again. */
static ls_code start_threads(lst_engine *e)
{
  sigset_t all;
  sigset_t before;
  unsigned i;
  unsigned started = 0;

  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for(i = 0; i < e->options.threads; i++) {
    lst_loop *loop = &e->loops[i];

    if(!loop->running)
      loop->running = !pthread_create(&loop->thread, NULL, run_thread, loop);
    started += loop->running;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  e->started = started == e->options.threads;
  return e->started ? LS_OK : LS_ENOMEM;
}

/* --- the caller's side --- */

static bool threaded(const lst_engine *e)
{
  return e->options.threads > 1;
}

/* Wakes the loops that could take a queued job. */
static void wake(lst_engine *e, bool all)
{
  lst_loop *best = NULL;
  unsigned best_active = 0;
  unsigned i;

  if(!threaded(e))
    return;
  pthread_mutex_lock(&e->lock);
  for(i = 0; i < e->options.threads; i++) {
    lst_loop *loop = &e->loops[i];

    if(loop->active < share(e, loop) &&
       (!best || loop->active < best_active)) {
      best = loop;
      best_active = loop->active;
    }
  }
  pthread_mutex_unlock(&e->lock);
  if(!all && best)
    curl_multi_wakeup(best->multi);
  for(i = 0; all && i < e->options.threads; i++)
    curl_multi_wakeup(e->loops[i].multi);
}

ls_code lst_engine_add(lst_engine *e, const lst_request *request,
                       uint64_t *id, const char **why)
{
  lst_job *job;
  ls_code code;

  *why = NULL;
  code = lst_job_new(&e->options, request, &job, why);
  if(code != LS_OK)
    return code;
  if(threaded(e) && !e->started) {
    code = start_threads(e);
    if(code != LS_OK) {
      lst_job_free(job);
      return code;
    }
  }
  pthread_mutex_lock(&e->lock);
  *id = job->id = e->next_id++;
  hash_add(e, job);
  list_add(&e->queue, job);
  pthread_mutex_unlock(&e->lock);
  wake(e, false);
  return LS_OK;
}

bool lst_engine_cancel(lst_engine *e, uint64_t id)
{
  lst_job *job;
  bool hit = false;

  pthread_mutex_lock(&e->lock);
  job = *hash_find(e, id);
  if(job && job->state == LST_QUEUED) {
    hit = true;
    mark_cancelled(job);
    list_remove(&e->queue, job);
    list_add(&e->finished, job);
    job->state = LST_FINISHED;
  }
  else if(job && job->state == LST_ACTIVE) {
    hit = true;
    if(!job->cancel)
      e->cancels++;
    job->cancel = true;
  }
  pthread_mutex_unlock(&e->lock);
  if(hit)
    wake(e, true);
  return hit;
}

/* One progress event for each active job that moved, not more than ten a
 * second each. */
static void make_progress(lst_engine *e)
{
  double now = lst_now();
  lst_job *job;

  e->progress_count = e->progress_next = 0;
  pthread_mutex_lock(&e->lock);
  for(job = e->active.first; job; job = job->next) {
    uint64_t sent = atomic_load(&job->sent);
    uint64_t received = atomic_load(&job->received);
    lst_event *event;

    if((sent == job->reported_sent && received == job->reported_received) ||
       now - job->reported_at < LST_TICK ||
       e->progress_count == LST_MAX_CONNECTIONS)
      continue;
    job->reported_sent = sent;
    job->reported_received = received;
    job->reported_at = now;
    event = &e->progress[e->progress_count++];
    memset(event, 0, sizeof(*event));
    event->type = LST_PROGRESS;
    event->id = job->id;
    event->sent = sent;
    event->received = received;
  }
  pthread_mutex_unlock(&e->lock);
}

static bool has_ends(lst_engine *e)
{
  bool yes;

  pthread_mutex_lock(&e->lock);
  yes = e->finished.count > 0;
  pthread_mutex_unlock(&e->lock);
  return yes;
}

static void wait_for_threads(lst_engine *e, double until)
{
  struct timespec ts;
  double whole;

  ts.tv_nsec = (long)(modf(until, &whole) * 1e9);
  ts.tv_sec = (time_t)whole;
  pthread_mutex_lock(&e->lock);
  while(!e->finished.count && !e->stopping &&
        !pthread_cond_timedwait(&e->changed, &e->lock, &ts))
    ;
  pthread_mutex_unlock(&e->lock);
}

void lst_engine_step(lst_engine *e, double seconds)
{
  double now = lst_now();
  double end = now + seconds;
  quiet q;

  if(!threaded(e))
    quiet_begin(&q);
  do {
    double left = end > now ? end - now : 0;

    if(!threaded(e))
      lst_loop_run(&e->loops[0], has_ends(e) ? 0 : left);
    else if(!has_ends(e))
      wait_for_threads(e, now + (left < LST_TICK ? left : LST_TICK));
    make_progress(e);
    now = lst_now();
  } while(!e->progress_count && !has_ends(e) && now < end);
  if(!threaded(e))
    quiet_end(&q);
}

static void fill_event(lst_event *event, const lst_job *job)
{
  memset(event, 0, sizeof(*event));
  event->type = job->failed ? LST_FAILED : LST_DONE;
  event->id = job->id;
  event->sent = atomic_load(&job->sent);
  event->received = atomic_load(&job->received);
  event->status = job->answer.status;
  event->headers = job->answer.headers.data;
  event->headers_length = job->answer.headers.size;
  event->body = job->answer.body.data;
  event->body_length = job->answer.body.size;
  event->has_crc32c = job->checksum && job->position == job->length;
  event->crc32c = job->crc32c;
  event->received_crc32c = job->received_crc32c;
  event->connect = job->connect;
  event->first_byte = job->first_byte;
  event->total = job->total;
  event->code = job->error.code;
  event->message = job->error.message;
  event->retryable = job->error.retryable;
}

const lst_event *lst_engine_next(lst_engine *e)
{
  lst_job *job;
  bool roomy;

  lst_job_free(e->delivered);
  e->delivered = NULL;
  if(e->progress_next < e->progress_count)
    return &e->progress[e->progress_next++];
  pthread_mutex_lock(&e->lock);
  job = e->finished.first;
  if(job) {
    list_remove(&e->finished, job);
    hash_remove(e, job);
  }
  roomy = job && e->finished.count == LST_UNREAD_MAX - 1 && e->queue.first;
  pthread_mutex_unlock(&e->lock);
  if(roomy)
    wake(e, true);
  if(!job)
    return NULL;
  e->delivered = job;
  fill_event(&e->event, job);
  return &e->event;
}

void lst_engine_stats(lst_engine *e, lst_stats *s)
{
  lst_job *job;

  pthread_mutex_lock(&e->lock);
  s->queued = e->queue.count;
  s->active = e->active.count;
  s->bytes_sent = atomic_load(&e->bytes_sent);
  s->bytes_received = atomic_load(&e->bytes_received);
  for(job = e->active.first; job; job = job->next) {
    s->bytes_sent += atomic_load(&job->sent);
    s->bytes_received += atomic_load(&job->received);
  }
  pthread_mutex_unlock(&e->lock);
  s->connections_opened = atomic_load(&e->connections_opened);
  s->buffer_bytes = atomic_load(&e->buffer_bytes);
}

void lst_engine_set_rate(lst_engine *e, uint64_t bytes_per_second)
{
  lst_rate_set(&e->rate, bytes_per_second, lst_now());
  wake(e, true);
}

void lst_engine_set_connections(lst_engine *e, unsigned connections)
{
  pthread_mutex_lock(&e->lock);
  e->connections = connections;
  pthread_mutex_unlock(&e->lock);
  wake(e, true);
}
