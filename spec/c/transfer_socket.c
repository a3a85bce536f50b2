/* The engine and its sockets, where the system or the server is unkind:
 * connections to two servers from one local port, a request that libcurl
 * repeats, a cap that holds both ways at once. */
#include "check.h"
#include "server.h"
#include "transfer/transfer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- every connection of libcurl's comes from this port, if it is not 0 --- */

static unsigned short local_port;
static _Atomic unsigned bound;

__attribute__((visibility("default")))
int connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t n)
{
  struct sockaddr_in from = loopback(local_port);
  int one = 1;

  if(local_port &&
     (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
      bind(fd, (struct sockaddr *)&from, sizeof(from))))
    return -1;
  atomic_fetch_add(&bound, local_port != 0);
  return (int)syscall(SYS_connect, fd, to.__sockaddr__, n);
}

/* --- the servers --- */

static _Atomic int expectations;

static void say(int fd, const char *text)
{
  if(send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
    check_true("the server speaks", false);
}

/* Reads a head, and whatever comes with it; false at the end. */
static bool read_head(int fd, char *to, size_t room)
{
  size_t have = 0;

  do {
    ssize_t n = recv(fd, to + have, room - 1 - have, 0);

    if(n <= 0)
      return false;
    have += (size_t)n;
    to[have] = 0;
  } while(!strstr(to, "\r\n\r\n"));
  return true;
}

static void read_all(int fd)
{
  char to[16384];

  while(recv(fd, to, sizeof(to), 0) > 0)
    ;
}

static void *serve(void *arg)
{
  static const char bytes[] = "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n";
  static char body[65536];
  int fd = *(int *)arg;
  char head[8192];

  free(arg);
  while(read_head(fd, head, sizeof(head))) {
    if(strstr(head, " /hold")) {
      sleep(1);
      break;
    }
    if(strstr(head, " /expect") && atomic_fetch_add(&expectations, 1) == 0)
      say(fd, "HTTP/1.1 417 Expectation Failed\r\nX-First: 1\r\n"
          "Content-Length: 2\r\n\r\nno");
    else if(strstr(head, " /expect")) {
      size_t have = strlen(strstr(head, "\r\n\r\n") + 4);

      say(fd, "HTTP/1.1 100 Continue\r\n\r\n");
      check_true("the body", have == 5 ||
                 recv(fd, head, 5 - have, MSG_WAITALL) == (ssize_t)(5 - have));
      say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes");
    }
    else if(strstr(head, " /bytes")) {
      say(fd, bytes);
      if(send(fd, body, sizeof(body), MSG_NOSIGNAL) < 0)
        break;
    }
    else
      say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    if(strstr(head, " /early")) {
      read_all(fd);
      break;
    }
  }
  close(fd);
  return NULL;
}

/* --- the tests --- */

static char data[2 << 20];

static lst_engine *new_engine(uint64_t rate)
{
  lst_options o;
  lst_engine *e = NULL;

  lst_options_init(&o);
  o.rate_limit = rate;
  o.proxy = "";
  check_true("engine", lst_engine_new(&o, &e) == LS_OK);
  return e;
}

static uint64_t add(lst_engine *e, unsigned short port, const char *path,
                    uint64_t length, const lst_header *header)
{
  char url[64];
  lst_request r;
  uint64_t id = 0;
  const char *why;

  memset(&r, 0, sizeof(r));
  r.method = length ? "PUT" : "GET";
  r.method_length = 3;
  r.url = url;
  r.url_length = (size_t)snprintf(url, sizeof(url), "http://127.0.0.1:%d%s",
                                  port, path);
  r.headers = header;
  r.header_count = header != NULL;
  r.body = length ? LST_BODY_BYTES : LST_BODY_NONE;
  r.bytes = data;
  r.length = length;
  check_true("add", lst_engine_add(e, &r, &id, &why) == LS_OK);
  return id;
}

/* The end of the job that ends next. */
static lst_event finish(lst_engine *e)
{
  const lst_event *event;
  int turns;

  for(turns = 0; turns < 600; turns++) {
    lst_engine_step(e, 0.1);
    while((event = lst_engine_next(e)) != NULL) {
      if(event->type != LST_PROGRESS)
        return *event;
    }
  }
  check_true("the job ended", false);
  exit(1);
}

/* What waits in the socket of its own connection is not taken for sent. */
static void one_local_port(unsigned short near, unsigned short far)
{
  lst_engine *e = new_engine(0);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  lst_event event;
  uint64_t id;
  int i;

  local_port = bind_free(fd);
  close(fd);
  add(e, near, "/", 0, NULL);
  event = finish(e);
  check_true("the other server", event.type == LST_DONE);
  id = add(e, far, "/hold", sizeof(data), NULL);
  for(i = 0; i < 5; i++)
    lst_engine_step(e, 0.03);
  check_true("under way", lst_engine_cancel(e, id));
  event = finish(e);
  check_true("sent no more than the server has", event.sent < 40000);
  check_u64("connections from that port", atomic_load(&bound), 2);
  lst_engine_free(e);
  local_port = 0;
}

/* Libcurl repeats a request whose expectation failed; the answer is then the
 * one to that. */
static void repeated(unsigned short port)
{
  static const lst_header expect = { "Expect", 6, "100-continue", 12 };
  lst_engine *e = new_engine(0);
  lst_event event;

  add(e, port, "/expect", 5, &expect);
  event = finish(e);
  check_u64("requests", (uint64_t)atomic_load(&expectations), 2);
  check_u64("status", (uint64_t)event.status, 200);
  check_text("body", event.body, event.body_length, "yes");
  check_bytes("headers", event.headers, event.headers_length,
              "content-length\0003", 17);
  lst_engine_free(e);
}

static double used(void)
{
  struct timespec ts;

  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A request that waits for the cap and has an answer that waits, too. */
static void both_ways(unsigned short port)
{
  lst_engine *e = new_engine(100000);
  double before;
  int i;

  add(e, port, "/bytes", 0, NULL);
  add(e, port, "/early", 50000, NULL);
  for(i = 0; i < 2; i++)
    finish(e);
  before = used();
  lst_engine_step(e, 1);
  check_true("sleeps when there is nothing to do", used() - before < 0.2);
  lst_engine_free(e);
}

int main(void)
{
  static server servers[2];
  unsigned short near = server_start(&servers[0], serve, 8192);
  unsigned short far = server_start(&servers[1], serve, 8192);

  memset(data, 'x', sizeof(data));
  one_local_port(near, far);
  repeated(near);
  both_ways(near);
  return check_end();
}
