/* The caller's waiting and reading: progress, and the ends of jobs.
 * Room: src/transfer. */
#include "internal.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

void lst_quiet_begin(lst_quiet *q)
{
  sigset_t pipe_set;
  sigset_t pending;

  sigemptyset(&pipe_set);
  sigaddset(&pipe_set, SIGPIPE);
  q->was_pending = !sigpending(&pending) && sigismember(&pending, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_set, &q->before);
}

void lst_quiet_end(lst_quiet *q)
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
  lst_quiet q;

  if(!lst_threaded(e))
    lst_quiet_begin(&q);
  do {
    double left = end > now ? end - now : 0;

    if(!lst_threaded(e))
      lst_loop_run(&e->loops[0], has_ends(e) ? 0 : left);
    else if(!has_ends(e))
      wait_for_threads(e, now + (left < LST_TICK ? left : LST_TICK));
    make_progress(e);
    now = lst_now();
  } while(!e->progress_count && !has_ends(e) && now < end);
  if(!lst_threaded(e))
    lst_quiet_end(&q);
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
  event->unconnected = !job->requested;
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
    lst_list_remove(&e->finished, job);
    lst_hash_remove(e, job);
  }
  roomy = job && e->finished.count == LST_UNREAD_MAX - 1 && e->queue.first;
  pthread_mutex_unlock(&e->lock);
  if(roomy)
    lst_wake_all(e);
  if(!job)
    return NULL;
  e->delivered = job;
  fill_event(&e->event, job);
  return &e->event;
}
