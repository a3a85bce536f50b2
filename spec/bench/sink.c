/* A discarding object store for benchmarks: takes uploads, keeps nothing.
 *
 *   sink --address A --port P [--tls-port T --cert PEM --key PEM]
 *        [--hash] [--md5] [--drop] [--busy N]
 *
 * One thread per connection, HTTP/1.1. It answers as much of S3 as uploading
 * clients ask for: PUT of objects and parts, create and complete of multipart
 * uploads, HEAD (404 until an object was put, then its size), location, an
 * empty list, DELETE. Bodies are read and thrown away; with --drop the kernel
 * throws them away, without a copy to this process, and over TLS they are not
 * decrypted (see blind.h), so that the clients are what is measured.
 *
 *   --hash   answers each PUT with x-sha256: of its body (a verifying run)
 *   --busy   more than N uploads at once are refused: 503 SlowDown, early
 *   --md5    ETags are the MD5 of the body (clients that check it)
 *   GET /_count   "requests bytes connections" since the start or GET /_reset
 */
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "blind.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#define HEAD_MAX 65536
#define BODY_BUFFER 262144

static bool want_hash, want_md5, want_drop;
static unsigned busy_above;
static _Atomic unsigned puts_under_way;
static _Atomic unsigned long long requests, bytes, connections;
static _Atomic unsigned long next_upload = 1;

/* Sizes of objects and of uploads under way, by key or upload id. */
struct entry {
  struct entry *next;
  unsigned long long size;
  char name[];
};

#define BUCKETS 4096
static struct entry *table[BUCKETS];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static struct entry **find(const char *name)
{
  unsigned h = 5381;
  const char *p;
  struct entry **link;

  for(p = name; *p; p++)
    h = h * 33 + (unsigned char)*p;
  for(link = &table[h % BUCKETS]; *link; link = &(*link)->next)
    if(!strcmp((*link)->name, name))
      break;
  return link;
}

/* Adds to (or, with `set`, replaces) a size; returns the sum. */
static unsigned long long note(const char *name, unsigned long long size,
                               bool set)
{
  struct entry **link;

  pthread_mutex_lock(&table_lock);
  link = find(name);
  if(!*link) {
    *link = calloc(1, sizeof(**link) + strlen(name) + 1);
    strcpy((*link)->name, name);
  }
  (*link)->size = set ? size : (*link)->size + size;
  size = (*link)->size;
  pthread_mutex_unlock(&table_lock);
  return size;
}

static bool lookup(const char *name, unsigned long long *size)
{
  struct entry **link;

  pthread_mutex_lock(&table_lock);
  link = find(name);
  if(*link)
    *size = (*link)->size;
  pthread_mutex_unlock(&table_lock);
  return *link != NULL;
}

static void forget(const char *name)
{
  struct entry **link;
  struct entry *gone;

  pthread_mutex_lock(&table_lock);
  link = find(name);
  gone = *link;
  if(gone)
    *link = gone->next;
  free(gone);
  pthread_mutex_unlock(&table_lock);
}

struct conn {
  int fd;
  SSL *ssl;
  struct blind *blind;  /* reads instead of ssl */
  EVP_MD_CTX *sha256;
  EVP_MD_CTX *md5;
  size_t have;          /* bytes in head[] not yet used */
  char head[HEAD_MAX + 1];
  char body[BODY_BUFFER];
};

static ssize_t take(struct conn *c, void *to, size_t n)
{
  if(c->blind)
    return blind_read(c->blind, to, n);
  if(c->ssl) {
    int got = SSL_read(c->ssl, to, (int)n);

    return got > 0 ? got : -1;
  }
  return recv(c->fd, to, n, 0);
}

static bool put(struct conn *c, const char *text, size_t n)
{
  while(n) {
    ssize_t done = c->ssl ? SSL_write(c->ssl, text, (int)n) :
      send(c->fd, text, n, MSG_NOSIGNAL);

    if(done <= 0)
      return false;
    text += done;
    n -= (size_t)done;
  }
  return true;
}

static bool answer(struct conn *c, const char *status, const char *headers,
                   const char *text, bool no_body)
{
  char out[8192];
  size_t length = strlen(text);
  int n = snprintf(out, sizeof(out),
                   "HTTP/1.1 %s\r\nServer: sink\r\nx-amz-request-id: 1\r\n"
                   "Content-Length: %zu\r\n%s\r\n%s", status, length,
                   headers, no_body ? "" : text);

  return put(c, out, (size_t)n);
}

/* The value of a header in the request's head, or NULL. */
static const char *header(const char *head, const char *name, char *to,
                          size_t room)
{
  size_t n = strlen(name);
  const char *p = head;

  while((p = strstr(p, "\r\n")) != NULL) {
    p += 2;
    if(!strncasecmp(p, name, n) && p[n] == ':') {
      size_t i = 0;

      p += n + 1;
      while(*p == ' ')
        p++;
      while(*p && *p != '\r' && i + 1 < room)
        to[i++] = *p++;
      to[i] = 0;
      return to;
    }
  }
  return NULL;
}

static bool hash(struct conn *c, const void *data, size_t n)
{
  return (!want_hash || EVP_DigestUpdate(c->sha256, data, n)) &&
    (!want_md5 || EVP_DigestUpdate(c->md5, data, n));
}

/* Reads n bytes of body, the first ones from behind the head. */
static bool drain(struct conn *c, unsigned long long n)
{
  size_t first = c->have < n ? c->have : (size_t)n;
  bool blind = want_drop && !c->ssl && !want_hash && !want_md5;

  atomic_fetch_add(&bytes, n);
  if(!hash(c, c->head, first))
    return false;
  memmove(c->head, c->head + first, c->have - first);
  c->have -= first;
  n -= first;
  if(c->blind && !blind_skip(c->blind, &n))
    return false;
  while(n) {
    size_t most = blind ? 1u << 30 : sizeof(c->body);
    ssize_t got;

    got = blind ? recv(c->fd, c->body, n < most ? n : most, MSG_TRUNC) :
      take(c, c->body, n < most ? n : most);

    if(got <= 0 || (!blind && !hash(c, c->body, (size_t)got)))
      return false;
    n -= (unsigned long long)got;
  }
  return true;
}

/* One line into `line`; false at the end of the connection. */
static bool read_line(struct conn *c, char *line, size_t room)
{
  for(;;) {
    char *eol = memchr(c->head, '\n', c->have);
    ssize_t got;

    if(eol) {
      size_t n = (size_t)(eol + 1 - c->head);

      snprintf(line, room, "%.*s", (int)n, c->head);
      memmove(c->head, c->head + n, c->have - n);
      c->have -= n;
      return true;
    }
    if(c->have == HEAD_MAX)
      return false;
    got = take(c, c->head + c->have, HEAD_MAX - c->have);
    if(got <= 0)
      return false;
    c->have += (size_t)got;
  }
}

static bool drain_chunked(struct conn *c)
{
  char line[256];

  for(;;) {
    unsigned long long n;

    if(!read_line(c, line, sizeof(line)))
      return false;
    n = strtoull(line, NULL, 16);
    if(!n)
      break;
    if(!drain(c, n) || !read_line(c, line, sizeof(line)))
      return false;
  }
  do {
    if(!read_line(c, line, sizeof(line)))
      return false;
  } while(strcmp(line, "\r\n") && strcmp(line, "\n"));
  return true;
}

static void hex(char *to, const unsigned char *from, unsigned n)
{
  unsigned i;

  for(i = 0; i < n; i++)
    sprintf(to + 2 * i, "%02x", from[i]);
}

static bool finish_put(struct conn *c, const char *key, const char *query,
                       unsigned long long size)
{
  char headers[512];
  char etag[65] = "d41d8cd98f00b204e9800998ecf8427e";
  char sha[65] = "";
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n;
  const char *upload = strstr(query, "uploadId=");
  char name[1024];

  if(want_md5 && EVP_DigestFinal_ex(c->md5, digest, &n))
    hex(etag, digest, n);
  if(want_hash && EVP_DigestFinal_ex(c->sha256, digest, &n))
    hex(sha, digest, n);
  if(upload) {
    snprintf(name, sizeof(name), "upload %.*s",
             (int)strcspn(upload + 9, "&"), upload + 9);
    note(name, size, false);
  }
  else
    note(key, size, true);
  snprintf(headers, sizeof(headers), "ETag: \"%s\"\r\n%s%s%s", etag,
           *sha ? "x-sha256: " : "", sha, *sha ? "\r\n" : "");
  return answer(c, "200 OK", headers, "", false);
}

static bool finish_post(struct conn *c, const char *key, const char *query)
{
  char xml[2048];
  char name[1024];
  const char *upload = strstr(query, "uploadId=");
  unsigned long long size = 0;

  if(!upload) {
    snprintf(xml, sizeof(xml),
             "<?xml version=\"1.0\"?><InitiateMultipartUploadResult>"
             "<Bucket>b</Bucket><Key>k</Key><UploadId>u%lu</UploadId>"
             "</InitiateMultipartUploadResult>",
             atomic_fetch_add(&next_upload, 1));
    return answer(c, "200 OK", "Content-Type: application/xml\r\n", xml,
                  false);
  }
  snprintf(name, sizeof(name), "upload %.*s", (int)strcspn(upload + 9, "&"),
           upload + 9);
  lookup(name, &size);
  forget(name);
  note(key, size, true);
  return answer(c, "200 OK", "Content-Type: application/xml\r\n",
                "<?xml version=\"1.0\"?><CompleteMultipartUploadResult>"
                "<Location>l</Location><Bucket>b</Bucket><Key>k</Key>"
                "<ETag>\"d41d8cd98f00b204e9800998ecf8427e-1\"</ETag>"
                "</CompleteMultipartUploadResult>", false);
}

static bool finish_get(struct conn *c, const char *key, const char *query,
                       bool head)
{
  char text[512];
  unsigned long long size = 0;
  const char *slash = *key ? strchr(key + 1, '/') : NULL;

  if(!strcmp(key, "/_count") || !strcmp(key, "/_reset")) {
    snprintf(text, sizeof(text), "%llu %llu %llu\n", atomic_load(&requests),
             atomic_load(&bytes), atomic_load(&connections));
    if(key[2] == 'r') {
      atomic_store(&requests, 0);
      atomic_store(&bytes, 0);
      atomic_store(&connections, 0);
    }
    return answer(c, "200 OK", "", text, head);
  }
  if(strstr(query, "location"))
    return answer(c, "200 OK", "Content-Type: application/xml\r\n",
                  "<?xml version=\"1.0\"?><LocationConstraint>us-east-1"
                  "</LocationConstraint>", head);
  if(!slash || !slash[1])
    return answer(c, "200 OK", "Content-Type: application/xml\r\n",
                  head ? "" : "<?xml version=\"1.0\"?><ListBucketResult>"
                  "<Name>b</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys>"
                  "<IsTruncated>false</IsTruncated></ListBucketResult>",
                  head);
  if(!lookup(key, &size))
    return answer(c, "404 Not Found", "", "", head);
  snprintf(text, sizeof(text),
           "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n"
           "ETag: \"d41d8cd98f00b204e9800998ecf8427e-1\"\r\n"
           "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n", size);
  return head ? put(c, text, strlen(text)) :
    answer(c, "501 Not Implemented", "", "", false);
}

/* The body of the request; `size` of what is stored of it. */
static bool take_body(struct conn *c, const char *head,
                      unsigned long long *size)
{
  char value[256];

  if(header(head, "Expect", value, sizeof(value)) &&
     !put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25))
    return false;
  if(header(head, "Transfer-Encoding", value, sizeof(value))) {
    if(!drain_chunked(c))
      return false;
  }
  else if(header(head, "Content-Length", value, sizeof(value))) {
    *size = strtoull(value, NULL, 10);
    if(!drain(c, *size))
      return false;
  }
  if(header(head, "x-amz-decoded-content-length", value, sizeof(value)))
    *size = strtoull(value, NULL, 10);
  return true;
}

static bool serve_request(struct conn *c)
{
  char head[HEAD_MAX + 1];
  char method[16], target[8192];
  char *query;
  char *end;
  unsigned long long size = 0;
  bool ok = true;

  while(c->head[c->have] = 0, !(end = strstr(c->head, "\r\n\r\n"))) {
    ssize_t got = c->have < HEAD_MAX ?
      take(c, c->head + c->have, HEAD_MAX - c->have) : -1;

    if(got <= 0)
      return false;
    c->have += (size_t)got;
  }
  end += 4;
  memcpy(head, c->head, (size_t)(end - c->head));
  head[end - c->head] = 0;
  c->have -= (size_t)(end - c->head);
  memmove(c->head, end, c->have);
  if(sscanf(head, "%15s %8191s", method, target) != 2)
    return false;
  query = strchr(target, '?');
  if(query)
    *query++ = 0;
  else
    query = target + strlen(target);
  if(target[0] == '/' && target[1] != '_')
    atomic_fetch_add(&requests, 1);
  if(want_hash)
    ok = EVP_DigestInit_ex(c->sha256, EVP_sha256(), NULL);
  if(want_md5)
    ok = ok && EVP_DigestInit_ex(c->md5, EVP_md5(), NULL);
  if(!strcmp(method, "PUT") &&
     atomic_fetch_add(&puts_under_way, 1) >= busy_above && busy_above) {
    atomic_fetch_sub(&puts_under_way, 1);
    answer(c, "503 Slow Down", "Connection: close\r\n",
           "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code></Error>",
           false);
    return false;
  }
  ok = take_body(c, head, &size) && ok;
  if(!strcmp(method, "PUT"))
    atomic_fetch_sub(&puts_under_way, 1);
  if(!ok)
    return false;
  if(!strcmp(method, "PUT"))
    return finish_put(c, target, query, size);
  if(!strcmp(method, "POST"))
    return finish_post(c, target, query);
  if(!strcmp(method, "DELETE")) {
    forget(target);
    return answer(c, "204 No Content", "", "", true);
  }
  return finish_get(c, target, query, !strcmp(method, "HEAD"));
}

struct start {
  int fd;
  SSL_CTX *tls;
};

static void *serve(void *arg)
{
  struct start s = *(struct start *)arg;
  struct conn *c = calloc(1, sizeof(*c));
  int on = 1;

  free(arg);
  atomic_fetch_add(&connections, 1);
  setsockopt(s.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  c->fd = s.fd;
  c->sha256 = EVP_MD_CTX_new();
  c->md5 = EVP_MD_CTX_new();
  if(s.tls) {
    c->ssl = SSL_new(s.tls);
    SSL_set_fd(c->ssl, c->fd);
  }
  if(!c->ssl || SSL_accept(c->ssl) == 1) {
    if(c->ssl && want_drop)
      c->blind = blind_open(c->ssl, c->fd);
    while(serve_request(c))
      ;
  }
  blind_close(c->blind);
  SSL_free(c->ssl);
  EVP_MD_CTX_free(c->sha256);
  EVP_MD_CTX_free(c->md5);
  close(c->fd);
  free(c);
  return NULL;
}

struct listener {
  int fd;
  SSL_CTX *tls;
};

static void *accept_all(void *arg)
{
  struct listener *l = arg;

  for(;;) {
    struct start *s = malloc(sizeof(*s));
    pthread_t thread;

    s->fd = accept(l->fd, NULL, NULL);
    s->tls = l->tls;
    if(s->fd < 0 || pthread_create(&thread, NULL, serve, s)) {
      if(s->fd >= 0)
        close(s->fd);
      free(s);
      continue;
    }
    pthread_detach(thread);
  }
  return NULL;
}

static int listen_on(const char *address, const char *port)
{
  struct sockaddr_in a;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  int on = 1;

  memset(&a, 0, sizeof(a));
  a.sin_family = AF_INET;
  a.sin_port = htons((uint16_t)atoi(port));
  inet_pton(AF_INET, address, &a.sin_addr);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if(bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 512)) {
    perror("sink: listen");
    exit(1);
  }
  return fd;
}

int main(int argc, char **argv)
{
  const char *address = "127.0.0.1", *port = NULL, *tls_port = NULL;
  const char *cert = NULL, *key = NULL;
  static struct listener plain, tls;
  pthread_t thread;
  int i;

  for(i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : "";

    if(!strcmp(argv[i], "--hash"))
      want_hash = true;
    else if(!strcmp(argv[i], "--md5"))
      want_md5 = true;
    else if(!strcmp(argv[i], "--drop"))
      want_drop = true;
    else if(!strcmp(argv[i], "--busy"))
      busy_above = (unsigned)atoi(value), i++;
    else if(!strcmp(argv[i], "--address"))
      address = value, i++;
    else if(!strcmp(argv[i], "--port"))
      port = value, i++;
    else if(!strcmp(argv[i], "--tls-port"))
      tls_port = value, i++;
    else if(!strcmp(argv[i], "--cert"))
      cert = value, i++;
    else if(!strcmp(argv[i], "--key"))
      key = value, i++;
    else {
      fprintf(stderr, "sink: unknown option %s\n", argv[i]);
      return 2;
    }
  }
  signal(SIGPIPE, SIG_IGN);
  if(tls_port) {
    tls.tls = SSL_CTX_new(TLS_server_method());
    if(want_drop)
      blind_prepare(tls.tls);
    else {
      /* Many records with one system call. */
      SSL_CTX_set_read_ahead(tls.tls, 1);
      SSL_CTX_set_default_read_buffer_len(tls.tls, 262144);
    }
    if(SSL_CTX_use_certificate_chain_file(tls.tls, cert) != 1 ||
       SSL_CTX_use_PrivateKey_file(tls.tls, key, SSL_FILETYPE_PEM) != 1) {
      ERR_print_errors_fp(stderr);
      return 1;
    }
    tls.fd = listen_on(address, tls_port);
    pthread_create(&thread, NULL, accept_all, &tls);
  }
  if(port) {
    plain.fd = listen_on(address, port);
    pthread_create(&thread, NULL, accept_all, &plain);
  }
  for(;;)
    pause();
}
