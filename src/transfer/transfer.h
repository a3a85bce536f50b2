/* The transfer engine: HTTP requests as jobs, answers as events.
 *
 * Room: src/transfer. Plain C over libcurl multi, no Lua. A job is one HTTP
 * request whose body is nothing, a string, or a byte range of a file; an
 * event says how far it came or how it ended. The engine opens connections,
 * reads, checksums, limits, times out and reports. It follows no redirect and
 * decides nothing: retries belong to the caller. (One is libcurl's own: when
 * a kept-alive connection turns out to be dead before a byte of an answer
 * came, the request goes out again on a fresh one, and its checksum starts
 * over; a POST or PATCH whose body had begun is not repeated but fails.)
 *
 * On the wire: the URL byte for byte as given, HTTP/1.1, http and https only,
 * TLS always verified, no `Expect: 100-continue` unless the job asks for it
 * (a store that answers early is heard anyway: see `lst_engine_add`), no
 * Accept and no Content-Type unless the job has them.
 *
 * Memory: connections x (buffer + receive buffer), whatever the size of a
 * body, plus string bodies and unread answers (each capped by max_response).
 *
 * Threads: an engine belongs to one caller thread at a time. With threads = 1
 * transfers advance only inside lst_engine_step; with N > 1 in N threads of
 * the engine's own, which take no signals and are joined by lst_engine_free.
 */
#ifndef LST_TRANSFER_H
#define LST_TRANSFER_H

#include "../core/ls.h"

#include <stdbool.h>

#define LST_MAX_CONNECTIONS 256
#define LST_MAX_THREADS 64
#define LST_MIN_BUFFER 16384
#define LST_MAX_BUFFER 2097152
#define LST_MAX_SECONDS 604800.0 /* of every timeout */

typedef struct lst_engine lst_engine;

typedef struct lst_options {
  unsigned connections;   /* requests under way at once, 1.. */
  unsigned threads;       /* libcurl loops; 1 runs inside step */
  size_t buffer;          /* upload bytes held per connection */
  size_t max_response;    /* ceiling of an answer's body held in memory */
  double connect_timeout; /* seconds for name, TCP and TLS */
  double stall_seconds;   /* 0: no watchdog */
  uint64_t stall_bytes;   /* least bytes per second over stall_seconds */
  uint64_t rate_limit;    /* bytes per second, whole engine; 0: none */
  const char *ca_file;    /* NULL: libcurl's */
  const char *ca_path;
  const char *user_agent; /* NULL: none sent */
  const char *proxy;      /* NULL: from the environment; "": none */
} lst_options;

typedef struct lst_header {
  const char *name;
  size_t name_length;
  const char *value;
  size_t value_length;
} lst_header;

enum lst_body { LST_BODY_NONE, LST_BODY_BYTES, LST_BODY_FILE };

/* One request. Everything is copied. Texts are pointer + length where bytes
 * from elsewhere go in, so that a NUL inside is seen and refused. */
typedef struct lst_request {
  const char *method;
  size_t method_length;
  const char *url;
  size_t url_length;
  const lst_header *headers;
  size_t header_count;

  enum lst_body body;
  const void *bytes;       /* LST_BODY_BYTES */
  const char *path;        /* LST_BODY_FILE */
  uint64_t offset;         /* of the range in the file */
  uint64_t length;         /* of the body, for both kinds */
  bool has_size;           /* the whole file must have `size` bytes ... */
  uint64_t size;
  bool has_mtime;          /* ... and this time of last change */
  int64_t mtime_ns;

  const char *output_path; /* NULL: the body of the answer goes to memory */
  uint64_t output_offset;
  bool has_output_length;  /* more than this many bytes: too_large */
  uint64_t output_length;

  bool has_max_response;
  size_t max_response;
  double timeout;          /* seconds for the whole job; 0: none */
  bool has_stall_seconds;  /* each overrides the engine's watchdog */
  double stall_seconds;
  bool has_stall_bytes;
  uint64_t stall_bytes;
  bool checksum;           /* CRC32C of the request body */
  bool fresh;              /* on a new connection */
} lst_request;

enum lst_event_type { LST_PROGRESS, LST_DONE, LST_FAILED };

/* What happened. Pointers are good until the next lst_engine_next, step or
 * free. `sent` counts body bytes given to the network; it goes back to zero
 * when libcurl starts the request over on a fresh connection. */
typedef struct lst_event {
  enum lst_event_type type;
  uint64_t id;
  uint64_t sent;
  uint64_t received;
  /* LST_DONE */
  int status;
  const char *headers;     /* name NUL value NUL ..., names in lower case */
  size_t headers_length;
  const char *body;
  size_t body_length;
  bool has_crc32c;
  uint32_t crc32c;         /* of the request body, when all of it was read */
  uint32_t received_crc32c;
  double connect;          /* seconds since the job started */
  double first_byte;
  double total;
  /* LST_FAILED: one of timeout network tls changed io cancelled too_large
   * invalid internal */
  const char *code;
  const char *message;     /* one line, no query string, no secret */
  bool retryable;
  bool unconnected;        /* there was no connection: nothing has arrived */
} lst_event;

typedef struct lst_stats {
  unsigned queued;
  unsigned active;
  uint64_t connections_opened;
  uint64_t bytes_sent;
  uint64_t bytes_received;
  uint64_t buffer_bytes;   /* transfer buffers allocated now */
} lst_stats;

/* Sets every option to its default. */
void lst_options_init(lst_options *options);

/* Makes an engine. LS_EINVAL for options out of range, LS_ENOMEM. */
LS_MUST_CHECK
ls_code lst_engine_new(const lst_options *options, lst_engine **engine);

/* Cancels what is under way, joins threads, closes connections, frees. Takes
 * NULL. */
void lst_engine_free(lst_engine *engine);

/* Queues a job and gives its id. LS_EINVAL: the request cannot be sent as it
 * is, `*why` (static text) says what is wrong; LS_ENOMEM.
 *
 * An answer that comes before the whole body was sent is an event `done` when
 * its status is 300 or more, also when the server closed or reset the
 * connection behind it; an early 2xx is a failure, since the server cannot
 * have had the body. */
LS_MUST_CHECK
ls_code lst_engine_add(lst_engine *engine, const lst_request *request,
                       uint64_t *id, const char **why);

/* Ends a job: true if it was queued or under way, and then its event is
 * `failed` with code cancelled. */
bool lst_engine_cancel(lst_engine *engine, uint64_t id);

/* Works or waits until there is an event or `seconds` are over, also when
 * there is no job. */
void lst_engine_step(lst_engine *engine, double seconds);

/* The next event, or NULL when there is none left. */
const lst_event *lst_engine_next(lst_engine *engine);

/* Figures of this moment. */
void lst_engine_stats(lst_engine *engine, lst_stats *stats);

/* Changes the bandwidth cap (0: none) and the number of requests under way
 * at once. Fewer connections take effect as running requests end. */
void lst_engine_set_rate(lst_engine *engine, uint64_t bytes_per_second);
void lst_engine_set_connections(lst_engine *engine, unsigned connections);

#endif
