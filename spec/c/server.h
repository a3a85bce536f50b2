/* A server on 127.0.0.1 in the test's own process, a thread for each
 * connection. Include in one file per program. */
#ifndef SERVER_H
#define SERVER_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/socket.h>

static inline struct sockaddr_in loopback(unsigned short port)
{
  struct sockaddr_in a;

  memset(&a, 0, sizeof(a));
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  a.sin_port = htons(port);
  return a;
}

/* Binds a socket to a free port. */
static inline unsigned short bind_free(int fd)
{
  struct sockaddr_in a = loopback(0);
  socklen_t n = sizeof(a);

  if(bind(fd, (struct sockaddr *)&a, sizeof(a)) ||
     getsockname(fd, (struct sockaddr *)&a, &n))
    exit(2);
  return ntohs(a.sin_port);
}

typedef struct {
  int fd;
  void *(*serve)(void *); /* gets an int *: the connection; frees it */
} server;

static inline void *server_run(void *arg)
{
  server *s = arg;

  for(;;) {
    int *fd = malloc(sizeof(*fd));
    pthread_t thread;

    if(!fd)
      exit(2);
    *fd = accept(s->fd, NULL, NULL);
    if(*fd < 0) {
      free(fd);
      return NULL;
    }
    pthread_create(&thread, NULL, s->serve, fd);
    pthread_detach(thread);
  }
}

/* Starts it; `receive` is the size of its connections' buffer, 0 the system's.
 * It runs as long as the program. Returns its port. */
static inline unsigned short server_start(server *s, void *(*serve)(void *),
                                          int receive)
{
  unsigned short port;
  pthread_t thread;

  s->serve = serve;
  s->fd = socket(AF_INET, SOCK_STREAM, 0);
  port = bind_free(s->fd);
  if((receive && setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &receive,
                            sizeof(receive))) ||
     listen(s->fd, 128))
    exit(2);
  pthread_create(&thread, NULL, server_run, s);
  pthread_detach(thread);
  return port;
}

#endif
