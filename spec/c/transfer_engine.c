/* The engine against a server in the same process: many jobs on one and on
 * several threads, cancelled, closed in the middle, repeated. Run under ASan
 * and UBSan, and under TSan (make tsan). */
#include "check.h"
#include "server.h"
#include "core/crc32c.h"
#include "transfer/transfer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- the server: reads requests with a Content-Length, answers 200 --- */

static server target;
static unsigned short port;
static _Atomic unsigned long long received;
static _Atomic unsigned requests;

static bool read_request(int fd, char *buffer, size_t room, size_t *have)
{
  char *end;
  char *length;
  unsigned long long left;
  ssize_t n;

  buffer[*have] = 0;
  while(!(end = strstr(buffer, "\r\n\r\n"))) {
    n = recv(fd, buffer + *have, room - 1 - *have, 0);
    if(n <= 0)
      return false;
    *have += (size_t)n;
    buffer[*have] = 0;
  }
  end += 4;
  length = strstr(buffer, "Content-Length: ");
  left = length && length < end ? strtoull(length + 16, NULL, 10) : 0;
  *have -= (size_t)(end - buffer);
  if(*have > left) {
    memmove(buffer, end + left, *have - left);
    *have -= left;
    atomic_fetch_add(&received, left);
    return true;
  }
  atomic_fetch_add(&received, left);
  left -= *have;
  *have = 0;
  while(left) {
    n = recv(fd, buffer, left < room ? left : room, 0);
    if(n <= 0)
      return false;
    left -= (size_t)n;
  }
  return true;
}

static void *serve(void *arg)
{
  static const char answer[] =
    "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 2\r\n\r\nok";
  int fd = *(int *)arg;
  char *buffer = malloc(65536);
  size_t have = 0;

  free(arg);
  while(buffer && read_request(fd, buffer, 65536, &have)) {
    atomic_fetch_add(&requests, 1);
    if(send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) < 0)
      break;
  }
  free(buffer);
  close(fd);
  return NULL;
}

/* --- the tests --- */

static char path[] = "/tmp/longshore-ctest-XXXXXX";
static unsigned char data[1 << 20];

static lst_engine *new_engine(unsigned threads, unsigned connections)
{
  lst_options o;
  lst_engine *e = NULL;

  lst_options_init(&o);
  o.threads = threads;
  o.connections = connections;
  o.buffer = 65536;
  o.proxy = "";
  check_true("engine", lst_engine_new(&o, &e) == LS_OK);
  return e;
}

static uint64_t add(lst_engine *e, uint64_t offset, uint64_t length)
{
  char url[64];
  lst_request r;
  uint64_t id = 0;
  const char *why;

  memset(&r, 0, sizeof(r));
  r.method = "PUT";
  r.method_length = 3;
  r.url = url;
  r.url_length = (size_t)snprintf(url, sizeof(url),
                                  "http://127.0.0.1:%u/x?secret=c0ffee", port);
  r.body = LST_BODY_FILE;
  r.path = path;
  r.offset = offset;
  r.length = length;
  r.checksum = true;
  check_true("add", lst_engine_add(e, &r, &id, &why) == LS_OK);
  return id;
}

static void many(unsigned threads)
{
  enum { JOBS = 200 };
  lst_engine *e = new_engine(threads, 6);
  uint64_t first = 0;
  bool seen[JOBS] = { false };
  const lst_event *event;
  lst_stats s;
  int i, ended = 0;

  for(i = 0; i < JOBS; i++) {
    uint64_t id = add(e, (uint64_t)i * 1000, 50000);

    first = i ? first : id;
  }
  while(ended < JOBS) {
    lst_engine_step(e, 1);
    while((event = lst_engine_next(e)) != NULL) {
      uint64_t at = event->id - first;

      if(event->type == LST_PROGRESS)
        continue;
      ended++;
      check_true("done", event->type == LST_DONE && event->status == 200);
      check_true("once", at < JOBS && !seen[at]);
      seen[at % JOBS] = true;
      check_u64("crc", event->crc32c, ls_crc32c(0, data + at * 1000, 50000));
      check_text("body", event->body, event->body_length, "ok");
    }
  }
  lst_engine_stats(e, &s);
  check_u64("sent", s.bytes_sent, (uint64_t)JOBS * 50000);
  check_true("connections", s.connections_opened <= 6);
  check_true("nothing left", !s.queued && !s.active);
  lst_engine_free(e);
}

static void cancelled(unsigned threads)
{
  lst_engine *e = new_engine(threads, 3);
  const lst_event *event;
  uint64_t ids[60];
  int i, ended = 0, cancels = 0, hit = 0;

  for(i = 0; i < 60; i++)
    ids[i] = add(e, 0, sizeof(data));
  for(i = 0; i < 60; i += 2)
    hit += lst_engine_cancel(e, ids[i]);
  while(ended < 60) {
    lst_engine_step(e, 1);
    while((event = lst_engine_next(e)) != NULL) {
      if(event->type == LST_PROGRESS)
        continue;
      ended++;
      if(event->type == LST_FAILED) {
        cancels++;
        check_true("cancelled", !strcmp(event->code, "cancelled"));
        check_true("no secret", !strstr(event->message, "c0ffee"));
      }
      if(ended == 10)
        hit += lst_engine_cancel(e, ids[59]);
    }
  }
  check_u64("as many as said", (uint64_t)cancels, (uint64_t)hit);
  check_true("unknown", !lst_engine_cancel(e, ids[0]));
  lst_engine_free(e);
}

static void closed_in_the_middle(unsigned threads)
{
  int i, round;

  for(round = 0; round < 10; round++) {
    lst_engine *e = new_engine(threads, 4);

    for(i = 0; i < 20; i++)
      add(e, 0, sizeof(data));
    lst_engine_step(e, 0.001 * round);
    if(round % 2)
      lst_engine_next(e);
    lst_engine_free(e);
  }
}

/* Limits change while threads work. */
static void retuned(unsigned threads)
{
  lst_engine *e = new_engine(threads, 8);
  int i, ended = 0;

  for(i = 0; i < 40; i++)
    add(e, 0, 200000);
  for(i = 0; ended < 40; i++) {
    const lst_event *event;
    lst_stats s;

    lst_engine_set_connections(e, (unsigned)(i % 8) + 1);
    lst_engine_set_rate(e, i % 3 ? 0 : 50000000);
    lst_engine_step(e, 0.05);
    lst_engine_stats(e, &s);
    while((event = lst_engine_next(e)) != NULL)
      ended += event->type != LST_PROGRESS;
  }
  check_u64("all ended", (uint64_t)ended, 40);
  lst_engine_free(e);
}

/* Engines in several threads at once, as nginx has them. */
static void *one_of_several(void *arg)
{
  (void)arg;
  many(1);
  many(2);
  return NULL;
}

static void refused(void)
{
  lst_options o;
  lst_engine *e = NULL;

  lst_options_init(&o);
  o.connections = 0;
  check_true("connections", lst_engine_new(&o, &e) == LS_EINVAL);
  lst_options_init(&o);
  o.buffer = 1;
  check_true("buffer", lst_engine_new(&o, &e) == LS_EINVAL);
  lst_options_init(&o);
  o.threads = LST_MAX_THREADS + 1;
  check_true("threads", lst_engine_new(&o, &e) == LS_EINVAL);
  lst_engine_free(NULL);
}

int main(void)
{
  static const unsigned threads[] = { 1, 2, 5 };
  pthread_t several[3];
  size_t i;
  int fd = mkstemp(path);

  for(i = 0; i < sizeof(data); i++)
    data[i] = (unsigned char)(i * 2654435761u >> 13);
  if(fd < 0 || write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
    return 2;
  close(fd);
  port = server_start(&target, serve, 0);
  refused();
  for(i = 0; i < 3; i++) {
    many(threads[i]);
    cancelled(threads[i]);
    closed_in_the_middle(threads[i]);
    retuned(threads[i]);
  }
  for(i = 0; i < 3; i++)
    pthread_create(&several[i], NULL, one_of_several, NULL);
  for(i = 0; i < 3; i++)
    pthread_join(several[i], NULL);
  unlink(path);
  return check_end();
}
