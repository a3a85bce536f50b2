/* What no client that reads, checks and sends in this way can undercut: parts
 * of files over plain HTTP in a bare loop of pread, CRC32C and send.
 *
 *   transfer_core PORT CONNECTIONS PART_SIZE FILE...
 *
 * The files' sizes are multiples of PART_SIZE. The sink is on 127.0.0.1.
 */
#include "core/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER ((size_t)256 << 10) /* as the engine's */
#define CONNECTIONS_MAX 64

typedef struct connection {
  int socket;
  int fd;             /* of the part under way, or -1 */
  off_t at, end;      /* of the file: what was not read yet */
  char *buffer;
  size_t sent, have;  /* of the buffer */
} connection;

static char **files;
static int file_count;
static off_t part_size;
static uint32_t crc;
static unsigned number;

static void must(int ok, const char *what)
{
  if(!ok) {
    perror(what);
    exit(1);
  }
}

/* The next part of the current file, or of the next one; false: none. */
static int begin(connection *c)
{
  static int file;
  static off_t at;
  char head[200];
  int n;

  c->fd = -1;
  if(file == file_count)
    return 0;
  c->fd = open(files[file], O_RDONLY);
  must(c->fd >= 0, files[file]);
  c->at = at;
  c->end = at + part_size;
  c->have = c->sent = 0;
  at = c->end;
  if(at >= lseek(c->fd, 0, SEEK_END)) {
    file++;
    at = 0;
  }
  n = snprintf(head, sizeof(head), "PUT /bench/k?partNumber=%u&uploadId=x "
               "HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %lld\r\n\r\n",
               ++number, (long long)part_size);
  must(send(c->socket, head, (size_t)n, MSG_NOSIGNAL) == n, "send");
  return 1;
}

static void open_one(connection *c, int port)
{
  struct sockaddr_in to = { .sin_family = AF_INET,
                            .sin_port = htons((in_port_t)port) };
  int one = 1;

  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  c->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  must(c->socket >= 0 &&
       connect(c->socket, (struct sockaddr *)&to, sizeof(to)) == 0,
       "connect");
  setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  must(fcntl(c->socket, F_SETFL, O_NONBLOCK) == 0, "fcntl");
  c->buffer = malloc(BUFFER);
  must(c->buffer != NULL, "malloc");
}

static int unsent(const connection *c)
{
  return c->sent < c->have || c->at < c->end;
}

static void write_some(connection *c)
{
  ssize_t n;

  if(c->sent == c->have) {
    size_t left = (size_t)(c->end - c->at);

    n = pread(c->fd, c->buffer, left < BUFFER ? left : BUFFER, c->at);
    must(n > 0, "pread");
    crc = ls_crc32c(crc, c->buffer, (size_t)n);
    c->at += n;
    c->have = (size_t)n;
    c->sent = 0;
  }
  n = send(c->socket, c->buffer + c->sent, c->have - c->sent, MSG_NOSIGNAL);
  must(n > 0 || errno == EAGAIN, "send");
  if(n > 0)
    c->sent += (size_t)n;
}

/* True: there is nothing more to do on this connection. */
static int read_answer(connection *c)
{
  char answer[4096];
  ssize_t n = recv(c->socket, answer, sizeof(answer), 0);

  must(n > 12 && !memcmp(answer, "HTTP/1.1 200", 12), "the answer");
  close(c->fd);
  return !begin(c);
}

int main(int argc, char **argv)
{
  static connection all[CONNECTIONS_MAX];
  struct pollfd fds[CONNECTIONS_MAX];
  int count = argc > 4 ? atoi(argv[2]) : 0, open_count = 0, i;

  if(count < 1 || count > CONNECTIONS_MAX)
    return 2;
  part_size = (off_t)atoll(argv[3]);
  files = argv + 4;
  file_count = argc - 4;
  for(i = 0; i < count; i++) {
    open_one(&all[i], atoi(argv[1]));
    open_count += begin(&all[i]);
  }
  while(open_count) {
    for(i = 0; i < count; i++) {
      fds[i].fd = all[i].fd < 0 ? -1 : all[i].socket;
      fds[i].events = unsent(&all[i]) ? POLLOUT : POLLIN;
    }
    must(poll(fds, (nfds_t)count, 10000) > 0, "poll");
    for(i = 0; i < count; i++) {
      if(fds[i].fd < 0 || !fds[i].revents)
        continue;
      if(unsent(&all[i]))
        write_some(&all[i]);
      else
        open_count -= read_answer(&all[i]);
    }
  }
  printf("%u %08x\n", number, crc);
  return 0;
}
