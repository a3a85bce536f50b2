/* A token bucket. Room: src/transfer. */
#include "rate.h"

/* Bytes go out in portions of a fiftieth of a second, so that a low cap
 * neither stutters nor makes a system call for every few bytes. */
static double portion(uint64_t rate)
{
  double p = (double)rate / 50;

  if(p < 1024)
    p = 1024;
  if(p > 262144)
    p = 262144;
  return p;
}

/* At most a tenth of a second (one portion at least) is saved up while
 * nothing is sent. */
static double ceiling(uint64_t rate)
{
  double c = (double)rate / 10;
  double p = portion(rate);

  return c > p ? c : p;
}

static void refill(lst_rate *r, double now)
{
  if(now > r->at) {
    r->tokens += (now - r->at) * (double)r->rate;
    if(r->tokens > ceiling(r->rate))
      r->tokens = ceiling(r->rate);
  }
  r->at = now;
}

void lst_rate_init(lst_rate *r, uint64_t rate, double now)
{
  pthread_mutex_init(&r->lock, NULL);
  r->rate = rate;
  r->tokens = 0;
  r->at = now;
}

void lst_rate_free(lst_rate *r)
{
  pthread_mutex_destroy(&r->lock);
}

void lst_rate_set(lst_rate *r, uint64_t rate, double now)
{
  pthread_mutex_lock(&r->lock);
  if(!r->rate)
    r->tokens = 0;
  refill(r, now);
  r->rate = rate;
  if(r->tokens > ceiling(rate))
    r->tokens = ceiling(rate);
  pthread_mutex_unlock(&r->lock);
}

size_t lst_rate_take(lst_rate *r, size_t want, double now)
{
  size_t granted = want;

  pthread_mutex_lock(&r->lock);
  if(r->rate) {
    double least = portion(r->rate);

    refill(r, now);
    if((double)want < least)
      least = (double)want;
    if(r->tokens < least)
      granted = 0;
    else {
      if((double)granted > r->tokens)
        granted = (size_t)r->tokens;
      r->tokens -= (double)granted;
    }
  }
  pthread_mutex_unlock(&r->lock);
  return granted;
}

int lst_rate_accept(lst_rate *r, size_t n, double now)
{
  int yes = 1;

  pthread_mutex_lock(&r->lock);
  if(r->rate) {
    refill(r, now);
    if(r->tokens < 0)
      yes = 0;
    else
      r->tokens -= (double)n;
  }
  pthread_mutex_unlock(&r->lock);
  return yes;
}

double lst_rate_wait(lst_rate *r, double now)
{
  double wait = 0;

  pthread_mutex_lock(&r->lock);
  if(r->rate) {
    refill(r, now);
    if(r->tokens < portion(r->rate))
      wait = (portion(r->rate) - r->tokens) / (double)r->rate;
  }
  pthread_mutex_unlock(&r->lock);
  return wait;
}
