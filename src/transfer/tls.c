/* TLS writes gathered, and an answer heard behind a broken write.
 * Room: src/transfer.
 *
 * OpenSSL hands each TLS record of 16 KiB to the socket by itself; a third of
 * an upload's CPU time goes into these system calls. So the connection's write
 * BIO, which is libcurl's, is replaced (once, before its first request) by one
 * of ours: it gathers records in a buffer and sends many at once, directly to
 * the socket. Whatever is left is sent after each turn of the loop, and the
 * loop waits for room in the socket as long as something is left.
 *
 * When the server resets the connection after an early answer, the failed
 * write must not hide that answer: as long as there are bytes to be read, a
 * dead connection only says "later" to the writer, so that libcurl reads.
 *
 * It is done only where libcurl uses the very OpenSSL that we are linked to,
 * and not through an HTTPS proxy, where the socket is not the next layer;
 * otherwise libcurl's own BIO stays.
 */
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>

struct lst_tls {
  lst_tls *next;        /* all of the loop */
  lst_loop *loop;
  int fd;
  bool dead;            /* sending failed for good */
  uint64_t sent;        /* bytes given to the socket since the beginning */
  size_t start;         /* what waits: data[start .. start + size) */
  size_t size;
  size_t room;
  unsigned char data[];
};

/* One record more than a full upload buffer makes. */
#define ROOM(buffer) ((buffer) + (buffer) / 256 + 17408)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;
static int method_type;

static bool readable(int fd)
{
  char byte;

  return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1;
}

/* Sends what waits, as far as the socket takes it. */
static void push(lst_tls *t)
{
  while(t->size && !t->dead) {
    ssize_t n = send(t->fd, t->data + t->start, t->size,
                     MSG_DONTWAIT | MSG_NOSIGNAL);

    if(n < 0 && errno == EINTR)
      continue;
    if(n < 0) {
      t->dead = errno != EAGAIN && errno != EWOULDBLOCK;
      break;
    }
    t->start += (size_t)n;
    t->size -= (size_t)n;
    t->sent += (uint64_t)n;
  }
  if(!t->size || t->dead)
    t->start = t->size = 0;
}

static int on_write(BIO *bio, const char *data, int length)
{
  lst_tls *t = BIO_get_data(bio);
  size_t n = (size_t)length;

  BIO_clear_retry_flags(bio);
  if(!t || length <= 0)
    return -1;
  if(t->start + t->size + n > t->room)
    push(t);
  if(t->dead) {
    if(readable(t->fd))
      BIO_set_retry_write(bio);
    else
      errno = EPIPE;
    return -1;
  }
  if(t->start + t->size + n > t->room && t->start) {
    memmove(t->data, t->data + t->start, t->size);
    t->start = 0;
  }
  if(t->size + n > t->room) {
    BIO_set_retry_write(bio);
    return -1;
  }
  memcpy(t->data + t->start + t->size, data, n);
  t->size += n;
  return length;
}

static long on_control(BIO *bio, int command, long number, void *pointer)
{
  lst_tls *t = BIO_get_data(bio);

  (void)number;
  (void)pointer;
  switch(command) {
  case BIO_CTRL_FLUSH:
    push(t);
    return 1;
  case BIO_CTRL_WPENDING:
    return (long)t->size;
  default:
    return 0;
  }
}

static int on_create(BIO *bio)
{
  BIO_set_init(bio, 1);
  return 1;
}

static int on_destroy(BIO *bio)
{
  lst_tls *t = BIO_get_data(bio);
  lst_tls **link;
  lst_slot *slot;

  if(!t)
    return 1;
  for(link = &t->loop->tls; *link != t; link = &(*link)->next)
    ;
  *link = t->next;
  for(slot = t->loop->slots; slot; slot = slot->next)
    if(slot->job && slot->job->tls == t)
      slot->job->tls = NULL;
  atomic_fetch_sub(&t->loop->engine->buffer_bytes, t->room);
  free(t);
  BIO_set_data(bio, NULL);
  return 1;
}

/* Whether libcurl's OpenSSL is the one that we call. */
static bool same_library(void)
{
  const char *its = curl_version_info(CURLVERSION_NOW)->ssl_version;

  return its && !strncmp(its, "OpenSSL/", 8) &&
    !strcmp(its + 8, OpenSSL_version(OPENSSL_VERSION_STRING));
}

static void make_method(void)
{
  BIO_METHOD *m;

  method_type = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK;
  m = same_library() ? BIO_meth_new(method_type, "longshore") : NULL;
  if(m && BIO_meth_set_write(m, on_write) &&
     BIO_meth_set_ctrl(m, on_control) &&
     BIO_meth_set_create(m, on_create) && BIO_meth_set_destroy(m, on_destroy))
    method = m;
  else
    BIO_meth_free(m);
}

static bool is_https_url(const char *text)
{
  return text && !strncasecmp(text, "https:", 6);
}

bool lst_tls_usable(const lst_options *o)
{
  static const char *const names[] = {
    "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"
  };
  size_t i;

  pthread_once(&once, make_method);
  if(!method || is_https_url(o->proxy))
    return false;
  for(i = 0; !o->proxy && i < sizeof(names) / sizeof(*names); i++)
    if(is_https_url(getenv(names[i])))
      return false;
  return true;
}

/* The BIO of ours under a connection, put there if it is not yet and the
 * socket is known. */
static lst_tls *tls_of(lst_loop *loop, SSL *ssl, int fd)
{
  BIO *bio = SSL_get_wbio(ssl);
  size_t room = ROOM(loop->engine->options.buffer);
  lst_tls *t;

  if(bio && BIO_method_type(bio) == method_type)
    return BIO_get_data(bio);
  if(fd < 0)
    return NULL;
  t = malloc(sizeof(*t) + room);
  bio = t ? BIO_new(method) : NULL;
  if(!bio) {
    free(t);
    return NULL;
  }
  memset(t, 0, sizeof(*t));
  t->loop = loop;
  t->fd = fd;
  t->room = room;
  t->next = loop->tls;
  loop->tls = t;
  atomic_fetch_add(&loop->engine->buffer_bytes, room);
  BIO_set_data(bio, t);
  SSL_set0_wbio(ssl, bio);
  return t;
}

void lst_tls_attach(lst_slot *slot)
{
  struct curl_tlssessioninfo *info = NULL;
  lst_job *job = slot->job;

  job->tls = NULL;
  if(!slot->loop->gathers ||
     curl_easy_getinfo(slot->easy, CURLINFO_TLS_SSL_PTR, &info) != CURLE_OK ||
     !info || info->backend != CURLSSLBACKEND_OPENSSL || !info->internals)
    return;
  job->tls = tls_of(slot->loop, info->internals, job->fd);
  if(job->tls) {
    job->fd = job->tls->fd;
    job->tls_began = job->tls->sent;
  }
}

void lst_tls_flush(lst_loop *loop)
{
  lst_tls *t;

  for(t = loop->tls; t; t = t->next)
    if(t->size)
      push(t);
}

unsigned lst_tls_waiting(const lst_loop *loop, struct curl_waitfd *fds,
                         unsigned max)
{
  const lst_tls *t;
  unsigned n = 0;

  for(t = loop->tls; t && n < max; t = t->next)
    if(t->size) {
      fds[n].fd = t->fd;
      fds[n].events = CURL_WAIT_POLLOUT;
      fds[n].revents = 0;
      n++;
    }
  return n;
}

bool lst_tls_holds(const lst_job *job)
{
  return job->tls && job->tls->size > 0;
}

uint64_t lst_tls_sent(const lst_job *job)
{
  return job->tls->sent - job->tls_began;
}
