/* Libcurl's sockets, opened and closed here. Room: src/transfer.
 *
 * Libcurl does not say which socket a transfer uses. It does say, before each
 * request, the two ends of its connection; comparing these with the sockets it
 * asked for tells.
 */
#include "internal.h"
#include "../core/crc32c.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

static curl_socket_t on_open(void *arg, curlsocktype purpose,
                             struct curl_sockaddr *address)
{
  lst_loop *loop = arg;
  int fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
                  address->protocol);

  (void)purpose;
  if(fd < 0)
    return CURL_SOCKET_BAD;
  if(loop->socket_count == loop->socket_room) {
    size_t room = loop->socket_room ? loop->socket_room * 2 : 16;
    lst_socket *grown = realloc(loop->sockets, room * sizeof(*grown));

    /* Without an entry the socket works, only less is known of it. */
    if(!grown)
      return fd;
    loop->sockets = grown;
    loop->socket_room = room;
  }
  loop->sockets[loop->socket_count].fd = fd;
  loop->sockets[loop->socket_count++].port = 0;
  return fd;
}

/* Reads the answer, or the rest of it, out of a socket whose sending side
 * failed: the server refused early, closed, and its reset overtook our
 * reading. Over TLS it cannot be read any more at this point; see tls.c. */
static void salvage(lst_slot *slot, int fd)
{
  lst_job *job = slot->job;
  lst_answer *a = &job->answer;
  curl_off_t sent = 0;
  char byte;
  char *data;
  size_t size = 0;
  ssize_t got;

  if(curl_easy_getinfo(slot->easy, CURLINFO_SIZE_UPLOAD_T, &sent) !=
     CURLE_OK || (uint64_t)sent >= job->length || job->error.code ||
     !strncasecmp(job->url, "https:", 6) ||
     (a->status && (!a->complete || a->status < 300)) ||
     recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) != 1)
    return;
  data = malloc(LST_SALVAGE);
  if(!data)
    return;
  while(size < LST_SALVAGE &&
        (got = recv(fd, data + size, LST_SALVAGE - size, MSG_DONTWAIT)) > 0)
    size += (size_t)got;
  if((a->status ? lst_answer_more(a, data, size) :
      lst_answer_salvage(a, data, size)) == LS_OK) {
    job->salvaged = true;
    if(job->first_byte <= 0)
      job->first_byte = lst_now() - job->started_at;
    job->received_crc32c = ls_crc32c(0, a->body.data, a->body.size);
  }
  free(data);
}

static int on_close(void *arg, curl_socket_t fd)
{
  lst_loop *loop = arg;
  lst_slot *slot;
  size_t i;

  for(slot = loop->slots; slot; slot = slot->next)
    if(slot->job && slot->job->fd == fd) {
      salvage(slot, fd);
      slot->job->fd = -1;
    }
  for(i = 0; i < loop->socket_count; i++)
    if(loop->sockets[i].fd == fd) {
      loop->sockets[i] = loop->sockets[--loop->socket_count];
      break;
    }
  return close(fd);
}

#if LIBCURL_VERSION_NUM >= 0x075000
/* The text and the port of an address; 0 for one that has none. */
static int read_address(const struct sockaddr_storage *a, char text[46])
{
  const struct sockaddr_in *four = (const struct sockaddr_in *)a;
  const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)a;
  bool is_six = a->ss_family == AF_INET6;
  const void *ip = is_six ? (const void *)&six->sin6_addr :
    (const void *)&four->sin_addr;

  if(!inet_ntop(a->ss_family, ip, text, 46))
    return 0;
  return ntohs(is_six ? six->sin6_port : four->sin_port);
}

/* The local end of a socket; it is known once the socket is connected. */
static void look_at(lst_socket *s)
{
  struct sockaddr_storage a;
  socklen_t length = sizeof(a);

  if(!getsockname(s->fd, (struct sockaddr *)&a, &length))
    s->port = read_address(&a, s->address);
}

static bool is_peer(int fd, const char *address, int port)
{
  struct sockaddr_storage a;
  socklen_t length = sizeof(a);
  char text[46];

  return !getpeername(fd, (struct sockaddr *)&a, &length) &&
    read_address(&a, text) == port && !strcmp(text, address);
}

static bool begins_here(lst_socket *s, const char *address, int port)
{
  if(!s->port)
    look_at(s);
  return s->port == port && !strcmp(s->address, address);
}

/* The socket between two ends, or -1. One local port can have several
 * connections, to different servers. */
static int find_socket(lst_loop *loop, const char *local, int local_port,
                       const char *remote, int remote_port)
{
  size_t found = 0;
  size_t i;
  int fd = -1;

  for(i = 0; i < loop->socket_count; i++)
    if(begins_here(&loop->sockets[i], local, local_port)) {
      fd = loop->sockets[i].fd;
      found++;
    }
  for(i = 0; found > 1 && i < loop->socket_count; i++)
    if(begins_here(&loop->sockets[i], local, local_port) &&
       is_peer(loop->sockets[i].fd, remote, remote_port))
      return loop->sockets[i].fd;
  return found > 1 ? -1 : fd;
}

static int on_request(void *arg, char *remote_address, char *local_address,
                      int remote_port, int port)
{
  lst_slot *slot = arg;

  slot->job->requested = true;
  slot->job->fd = find_socket(slot->loop, local_address, port,
                              remote_address, remote_port);
  /* What came so far answered a request that libcurl repeats now. */
  lst_answer_reset(&slot->job->answer);
  lst_tls_attach(slot);
  return CURL_PREREQFUNC_OK;
}
#endif

ls_code lst_socket_setup(lst_slot *slot)
{
  CURL *easy = slot->easy;
  bool ok =
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open) == CURLE_OK &&
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, slot->loop) == CURLE_OK &&
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close) ==
      CURLE_OK &&
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, slot->loop) == CURLE_OK;

#if LIBCURL_VERSION_NUM >= 0x075000
  ok = ok &&
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request) == CURLE_OK &&
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, slot) == CURLE_OK;
#endif
  return ok ? LS_OK : LS_ENOMEM;
}

bool lst_socket_blind(void)
{
  return LIBCURL_VERSION_NUM < 0x075000;
}

uint64_t lst_socket_waiting(const lst_job *job)
{
  int n = 0;

  if(job->fd < 0 || ioctl(job->fd, SIOCOUTQ, &n) || n < 0)
    return 0;
  return (uint64_t)n;
}
