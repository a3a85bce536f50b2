/* A long link in a small program: a TCP relay that adds delay, jitter, a
 * window for each connection, and accidents.
 *
 *   link --listen A:P --target A:P --delay MS [--jitter MS] [--window BYTES]
 *        [--accidents BYTES] [--slow-every N --slow-rate B/s]
 *
 * Bytes arrive at the other side MS (plus 0..jitter) later, in order; a
 * connection has at most --window bytes under way until they are
 * acknowledged, so that it carries window / (2 x delay) bytes a second, as a
 * TCP connection over a long path does. The first bytes of a connection take
 * one round trip more. Each time that so many BYTES were carried, by all
 * connections together, there is an accident: the connection that carries
 * just then is reset, the next time it stalls (forwards nothing any more, but
 * stays open), and so on in turn. Every N-th connection is slow.
 *
 * Bandwidth is not its business: tc tbf limits that (see links.lua).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONNECTIONS 512
#define CHUNK 16384

static double delay, jitter, slow_rate;
static size_t window = 1 << 20;
static unsigned slow_every;
static unsigned long long accidents, carried, next_accident;
static unsigned accident_count;
static unsigned accepted;

static double now(void)
{
  struct timespec ts;

  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

struct chunk {
  struct chunk *next;
  double due;
  size_t size, done;
  char data[CHUNK];
};

/* Bytes delivered and not yet acknowledged. */
struct ack {
  struct ack *next;
  double due;
  size_t size;
};

/* One direction of a connection. */
struct way {
  int from, to;
  bool ended, closed;       /* from has ended; to was told */
  struct chunk *first, *last;
  struct ack *ack_first, *ack_last;
  size_t under_way;
  double last_due;
  double budget_at;         /* for the slow ones */
  double budget;
};

struct connection {
  struct way up, down;
  double extra_until;       /* the handshake's round trip */
  bool used, stalled, reset, slow;
};

static struct connection connections[MAX_CONNECTIONS];

static void parse_address(const char *text, struct sockaddr_in *a)
{
  char host[64];
  const char *colon = strrchr(text, ':');

  memset(a, 0, sizeof(*a));
  a->sin_family = AF_INET;
  snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
  inet_pton(AF_INET, host, &a->sin_addr);
  a->sin_port = htons((uint16_t)atoi(colon + 1));
}

static void prepare(int fd)
{
  int on = 1;

  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void drop_way(struct way *w)
{
  while(w->first) {
    struct chunk *c = w->first;

    w->first = c->next;
    free(c);
  }
  while(w->ack_first) {
    struct ack *a = w->ack_first;

    w->ack_first = a->next;
    free(a);
  }
}

static void drop(struct connection *c, bool reset)
{
  struct linger hard = { 1, 0 };

  if(reset) {
    setsockopt(c->up.from, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    setsockopt(c->up.to, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  }
  close(c->up.from);
  close(c->up.to);
  drop_way(&c->up);
  drop_way(&c->down);
  memset(c, 0, sizeof(*c));
}

static void begin(int listener, const struct sockaddr_in *target)
{
  struct connection *c = connections;
  int from = accept(listener, NULL, NULL);
  int to;

  if(from < 0)
    return;
  while(c < connections + MAX_CONNECTIONS && c->used)
    c++;
  to = socket(AF_INET, SOCK_STREAM, 0);
  if(c == connections + MAX_CONNECTIONS ||
     connect(to, (const struct sockaddr *)target, sizeof(*target))) {
    close(from);
    close(to);
    return;
  }
  prepare(from);
  prepare(to);
  accepted++;
  c->used = true;
  c->up.from = c->down.to = from;
  c->up.to = c->down.from = to;
  c->extra_until = now() + 2 * delay;
  c->slow = slow_every && accepted % slow_every == 0;
  c->up.budget_at = now();
}

static void take_acks(struct way *w, double t)
{
  while(w->ack_first && w->ack_first->due <= t) {
    struct ack *a = w->ack_first;

    w->ack_first = a->next;
    if(!w->ack_first)
      w->ack_last = NULL;
    w->under_way -= a->size;
    free(a);
  }
}

static bool may_read(const struct way *w)
{
  return !w->ended && w->under_way < window;
}

/* Reads what there is room for into the line. */
static void fill(struct connection *c, struct way *w, double t)
{
  while(may_read(w)) {
    struct chunk *k = malloc(sizeof(*k));
    size_t room = window - w->under_way;
    ssize_t n = recv(w->from, k->data, room < CHUNK ? room : CHUNK, 0);

    if(n <= 0) {
      free(k);
      w->ended = n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
      return;
    }
    k->next = NULL;
    k->size = (size_t)n;
    k->done = 0;
    k->due = (t > c->extra_until ? t : c->extra_until) + delay +
      jitter * (rand() % 1000) / 1000;
    if(k->due < w->last_due)
      k->due = w->last_due;
    w->last_due = k->due;
    if(w->last)
      w->last->next = k;
    else
      w->first = k;
    w->last = k;
    w->under_way += (size_t)n;
  }
}

static void acknowledge(struct way *w, size_t n, double t)
{
  struct ack *a = malloc(sizeof(*a));

  a->next = NULL;
  a->due = t + delay;
  a->size = n;
  if(w->ack_last)
    w->ack_last->next = a;
  else
    w->ack_first = a;
  w->ack_last = a;
}

/* Writes what is due. False: the connection is over. */
static bool deliver(struct connection *c, struct way *w, double t)
{
  bool up = w == &c->up;

  if(c->stalled)
    return true;
  if(c->slow && up) {
    w->budget += (t - w->budget_at) * slow_rate;
    if(w->budget > slow_rate / 10)
      w->budget = slow_rate / 10;
    w->budget_at = t;
  }
  while(w->first && w->first->due <= t) {
    struct chunk *k = w->first;
    size_t want = k->size - k->done;
    ssize_t n;

    if(c->slow && up && (double)want > w->budget) {
      if(w->budget < 1)
        return true;
      want = (size_t)w->budget;
    }
    n = send(w->to, k->data + k->done, want, MSG_NOSIGNAL);
    if(n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return true;
    if(n < 0) {
      /* The server hung up; what it said before is still to be delivered. */
      if(!up)
        return false;
      drop_way(w);
      w->last = NULL;
      w->ack_last = NULL;
      w->ended = w->closed = true;
      return true;
    }
    if(c->slow && up)
      w->budget -= (double)n;
    if(up && accidents && (carried += (unsigned long long)n) >= next_accident) {
      next_accident += accidents;
      if(accident_count++ % 2)
        c->stalled = true;
      else
        c->reset = true;
    }
    acknowledge(w, (size_t)n, t);
    k->done += (size_t)n;
    if(k->done < k->size)
      continue;
    w->first = k->next;
    if(!w->first)
      w->last = NULL;
    free(k);
  }
  if(w->ended && !w->first && !w->closed) {
    shutdown(w->to, SHUT_WR);
    w->closed = true;
  }
  return true;
}

static void turn(struct connection *c, double t)
{
  take_acks(&c->up, t);
  take_acks(&c->down, t);
  fill(c, &c->up, t);
  fill(c, &c->down, t);
  if(!deliver(c, &c->up, t) || !deliver(c, &c->down, t) ||
     c->down.closed || c->reset)
    drop(c, c->reset);
}

int main(int argc, char **argv)
{
  struct sockaddr_in here, target;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  int on = 1, small = 65536, i;

  for(i = 1; i + 1 < argc; i += 2) {
    const char *v = argv[i + 1];

    if(!strcmp(argv[i], "--listen"))
      parse_address(v, &here);
    else if(!strcmp(argv[i], "--target"))
      parse_address(v, &target);
    else if(!strcmp(argv[i], "--delay"))
      delay = atof(v) / 1000;
    else if(!strcmp(argv[i], "--jitter"))
      jitter = atof(v) / 1000;
    else if(!strcmp(argv[i], "--window"))
      window = (size_t)atol(v);
    else if(!strcmp(argv[i], "--accidents"))
      accidents = next_accident = strtoull(v, NULL, 10);
    else if(!strcmp(argv[i], "--slow-every"))
      slow_every = (unsigned)atoi(v);
    else if(!strcmp(argv[i], "--slow-rate"))
      slow_rate = atof(v);
    else {
      fprintf(stderr, "link: unknown option %s\n", argv[i]);
      return 2;
    }
  }
  signal(SIGPIPE, SIG_IGN);
  srand(1);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  if(bind(listener, (struct sockaddr *)&here, sizeof(here)) ||
     listen(listener, 512)) {
    perror("link: listen");
    return 1;
  }
  for(;;) {
    static struct pollfd fds[2 * MAX_CONNECTIONS + 1];
    nfds_t n = 0;
    bool waiting = false;
    double t;

    fds[n].fd = listener;
    fds[n++].events = POLLIN;
    for(i = 0; i < MAX_CONNECTIONS; i++) {
      struct connection *c = &connections[i];

      if(!c->used)
        continue;
      waiting = waiting || c->up.first || c->down.first || c->up.ack_first ||
        c->down.ack_first;
      if(may_read(&c->up)) {
        fds[n].fd = c->up.from;
        fds[n++].events = POLLIN;
      }
      if(may_read(&c->down)) {
        fds[n].fd = c->down.from;
        fds[n++].events = POLLIN;
      }
    }
    poll(fds, n, waiting ? 1 : 100);
    if(fds[0].revents)
      begin(listener, &target);
    t = now();
    for(i = 0; i < MAX_CONNECTIONS; i++)
      if(connections[i].used)
        turn(&connections[i], t);
  }
}
