/* Between the queue and the loops: who takes which job, who sleeps, who is
 * woken, and the threads. Room: src/transfer. */
#include "internal.h"

#include <signal.h>

/* How many of the connections are this loop's. */
static unsigned share(const lst_engine *e, const lst_loop *loop)
{
  unsigned n = e->options.threads;

  return e->connections / n + (loop->index < e->connections % n);
}

static bool can_take(const lst_engine *e, const lst_loop *loop)
{
  return e->queue.first && !e->stopping && loop->active < share(e, loop) &&
    e->finished.count < LST_UNREAD_MAX;
}

bool lst_engine_may_sleep(lst_loop *loop)
{
  lst_engine *e = loop->engine;
  bool sleep;

  pthread_mutex_lock(&e->lock);
  loop->sleeping = !e->stopping && !can_take(e, loop);
  sleep = loop->sleeping;
  pthread_mutex_unlock(&e->lock);
  return sleep;
}

void lst_engine_awake(lst_loop *loop)
{
  pthread_mutex_lock(&loop->engine->lock);
  loop->sleeping = false;
  pthread_mutex_unlock(&loop->engine->lock);
}

lst_job *lst_engine_take(lst_loop *loop)
{
  lst_engine *e = loop->engine;
  lst_job *job = NULL;

  pthread_mutex_lock(&e->lock);
  if(can_take(e, loop)) {
    job = e->queue.first;
    lst_list_remove(&e->queue, job);
    lst_list_add(&e->active, job);
    job->state = LST_ACTIVE;
    job->loop = loop;
    loop->active++;
  }
  pthread_mutex_unlock(&e->lock);
  return job;
}

void lst_mark_cancelled(lst_job *job)
{
  job->failed = true;
  lst_error_set(&job->error, "cancelled", false,
                "the request was cancelled: %s", job->target);
}

void lst_engine_finish(lst_loop *loop, lst_job *job)
{
  lst_engine *e = loop->engine;

  pthread_mutex_lock(&e->lock);
  if(job->cancel) {
    e->cancels--;
    lst_mark_cancelled(job);
  }
  lst_list_remove(&e->active, job);
  lst_list_add(&e->finished, job);
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
ls_code lst_start_threads(lst_engine *e)
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

bool lst_threaded(const lst_engine *e)
{
  return e->options.threads > 1;
}

/* Wakes the least busy of the sleeping loops that could take a queued job.
 * Each add wakes another one; a loop that is awake looks by itself. */
void lst_wake_one(lst_engine *e)
{
  lst_loop *best = NULL;
  unsigned i;

  if(!lst_threaded(e))
    return;
  pthread_mutex_lock(&e->lock);
  for(i = 0; i < e->options.threads; i++) {
    lst_loop *loop = &e->loops[i];

    if(loop->sleeping && can_take(e, loop) &&
       (!best || loop->active < best->active))
      best = loop;
  }
  if(best)
    best->sleeping = false;
  pthread_mutex_unlock(&e->lock);
  if(best)
    curl_multi_wakeup(best->multi);
}

void lst_wake_all(lst_engine *e)
{
  unsigned i;

  for(i = 0; lst_threaded(e) && i < e->options.threads; i++)
    curl_multi_wakeup(e->loops[i].multi);
}
