/* A token bucket: the bandwidth cap that all connections of an engine share.
 *
 * Room: src/transfer. Time is a parameter, seconds of one monotonic clock.
 * Takes its own lock, since every loop of an engine draws from one bucket.
 */
#ifndef LST_RATE_H
#define LST_RATE_H

#include "../core/ls.h"

#include <pthread.h>

typedef struct lst_rate {
  pthread_mutex_t lock;
  uint64_t rate;  /* bytes per second; 0: no cap */
  double tokens;  /* bytes that may go now; below zero: a debt */
  double at;      /* when tokens was right */
} lst_rate;

void lst_rate_init(lst_rate *r, uint64_t rate, double now);
void lst_rate_free(lst_rate *r);

/* What was saved up or is owed stays, within the new rate's bounds. */
void lst_rate_set(lst_rate *r, uint64_t rate, double now);

/* How many of `want` bytes may go now; 0 means wait. Taken at once. */
size_t lst_rate_take(lst_rate *r, size_t want, double now);

/* Whether bytes that are already here (of an answer) may be accepted; if so
 * they are taken whole, on credit if need be. */
int lst_rate_accept(lst_rate *r, size_t n, double now);

/* Seconds until take would answer more than zero; 0 when it does now. */
double lst_rate_wait(lst_rate *r, double now);

#endif
