/* What the files of the engine share. Room: src/transfer. Not for others.
 *
 * Who owns what: `engine->lock` guards the lists, the hash, the counts and
 * each job's `state`, `cancel` and links. The inside of an active job belongs
 * to the loop that runs it, except the two atomic counters. A finished job is
 * in `finished` until lst_engine_next hands it out.
 */
#ifndef LST_INTERNAL_H
#define LST_INTERNAL_H

#include "answer.h"
#include "rate.h"
#include "source.h"
#include "transfer.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include <curl/curl.h>

#define LST_RECEIVE_BUFFER 65536     /* libcurl's, per connection */
#define LST_SALVAGE 65536            /* most bytes read from a dead socket */
#define LST_UNREAD_MAX 1024          /* no new jobs above so many unread events */
#define LST_TICK 0.05                /* seconds between looks at the counters */

enum lst_state { LST_QUEUED, LST_ACTIVE, LST_FINISHED };

typedef struct lst_job lst_job;
typedef struct lst_slot lst_slot;
typedef struct lst_loop lst_loop;
typedef struct lst_tls lst_tls;

typedef struct lst_list {
  lst_job *first;
  lst_job *last;
  unsigned count;
} lst_list;

struct lst_job {
  uint64_t id;
  enum lst_state state;
  bool cancel;
  lst_job *prev;            /* in the queue, the active or the finished list */
  lst_job *next;
  lst_job *hash_next;
  lst_loop *loop;           /* while active */
  _Atomic uint64_t sent;
  _Atomic uint64_t received;
  uint64_t reported_sent;   /* in the last progress event */
  uint64_t reported_received;
  double reported_at;

  /* the request */
  char *method;
  char *url;
  char *target;             /* the URL without query, for messages */
  struct curl_slist *headers;
  enum lst_body body;
  char *bytes;
  lst_source source;
  uint64_t length;
  bool has_sink;
  lst_sink sink;
  bool has_sink_length;
  uint64_t sink_length;
  double timeout;
  double stall_seconds;
  uint64_t stall_bytes;
  bool checksum;
  bool fresh;

  /* on the way */
  uint64_t position;        /* bytes of the body handed to libcurl */
  uint32_t crc32c;
  uint64_t sink_position;
  uint32_t received_crc32c;
  lst_answer answer;
  bool salvaged;            /* the end of it came around libcurl */
  bool early;               /* the answer came before the body had arrived */
  bool requested;           /* the request began to go out */
  int fd;                   /* libcurl's socket while one is known, or -1 */
  lst_tls *tls;             /* our buffer below TLS, or NULL */
  uint64_t tls_began;       /* what that had sent before this request */
  bool paused;              /* waiting for the bandwidth cap ... */
  bool throttled;           /* ... or did so since the watchdog last looked */
  double started_at;
  double stall_at;          /* when the watchdog last looked ... */
  uint64_t stall_moved;     /* ... and what had moved by then */

  /* the end */
  bool failed;
  lst_error error;          /* code NULL: none yet */
  double connect;
  double first_byte;
  double total;
};

/* One libcurl handle, used for one job after another: its buffers and the
 * options that all jobs share are set once. */
struct lst_slot {
  CURL *easy;
  lst_loop *loop;
  lst_job *job;             /* NULL: idle */
  lst_slot *next;           /* all slots of the loop */
  char why[CURL_ERROR_SIZE];
};

typedef struct lst_socket {
  int fd;
  int port;                 /* the local one; 0: not looked at yet */
  char address[46];
} lst_socket;

/* One libcurl multi handle and the thread that runs it (none when inline). */
struct lst_loop {
  lst_engine *engine;
  CURLM *multi;
  lst_slot *slots;
  unsigned index;
  unsigned active;          /* guarded by the engine's lock, as is ... */
  bool sleeping;            /* ... this: waits, and nobody woke it yet */
  unsigned paused;
  lst_tls *tls;             /* the buffers below TLS connections */
  bool gathers;             /* new ones may be made */
  lst_socket *sockets;      /* open ones that libcurl asked for */
  size_t socket_count;
  size_t socket_room;
  double ticked_at;
  bool running;             /* there is a thread to join */
  pthread_t thread;
};

struct lst_engine {
  lst_options options;      /* texts owned */
  lst_rate rate;
  pthread_mutex_t lock;
  pthread_cond_t changed;   /* an event is there (threads > 1) */
  bool stopping;
  bool started;
  unsigned connections;
  uint64_t next_id;
  lst_list queue;
  lst_list active;
  lst_list finished;
  unsigned cancels;         /* active jobs whose cancel is not yet seen */
  lst_job **hash;
  size_t hash_size;         /* a power of two */
  size_t hash_used;
  lst_event *progress;      /* LST_MAX_CONNECTIONS of them */
  size_t progress_count;
  size_t progress_next;
  lst_job *delivered;       /* whose event the caller is reading */
  lst_event event;
  _Atomic uint64_t connections_opened;
  _Atomic uint64_t bytes_sent;
  _Atomic uint64_t bytes_received;
  _Atomic uint64_t buffer_bytes;
  lst_loop *loops;          /* options.threads of them */
};

/* Seconds of the monotonic clock. */
double lst_now(void);

/* job.c: a job from a request (LS_EINVAL with *why, LS_ENOMEM), and its end.
 * The ceiling and the watchdog come from the engine where the request does
 * not say. */
LS_MUST_CHECK
ls_code lst_job_new(const lst_options *defaults, const lst_request *request,
                    lst_job **job, const char **why);
void lst_job_free(lst_job *job);

/* request.c: libcurl's options for a slot (once) and for a job. */
LS_MUST_CHECK
ls_code lst_slot_setup(lst_slot *slot);
LS_MUST_CHECK
ls_code lst_request_setup(lst_slot *slot, lst_job *job);

/* socket.c: libcurl's sockets pass through our hands, so that a job knows its
 * own: for the bytes that still wait in it, and for the answer that lies in
 * it when sending fails. */
LS_MUST_CHECK
ls_code lst_socket_setup(lst_slot *slot);
uint64_t lst_socket_waiting(const lst_job *job);
/* Whether this libcurl is too old to say that a request begins. */
bool lst_socket_blind(void);

/* tls.c: whether TLS writes can be gathered here; a request's connection gets
 * its buffer; what is left goes out, or waits for these sockets; and how many
 * bytes went to the socket since the request began (TLS's own included). */
bool lst_tls_usable(const lst_options *options);
void lst_tls_attach(lst_slot *slot);
void lst_tls_flush(lst_loop *loop);
unsigned lst_tls_waiting(const lst_loop *loop, struct curl_waitfd *fds,
                         unsigned max);
uint64_t lst_tls_sent(const lst_job *job);
bool lst_tls_holds(const lst_job *job);

/* verdict.c: what a finished transfer means; fills the job's end. */
void lst_verdict(lst_slot *slot, lst_job *job, CURLcode result);

/* loop.c */
LS_MUST_CHECK
ls_code lst_loop_init(lst_loop *loop, lst_engine *engine, unsigned index);
void lst_loop_free(lst_loop *loop);
/* Takes jobs, lets them advance, waits up to `seconds` for the network. */
void lst_loop_run(lst_loop *loop, double seconds);

/* lists.c; the lock is held. `lst_hash_find` gives the link that points to the
 * job, or to NULL. */
void lst_list_add(lst_list *l, lst_job *job);
void lst_list_remove(lst_list *l, lst_job *job);
lst_job **lst_hash_find(lst_engine *e, uint64_t id);
void lst_hash_add(lst_engine *e, lst_job *job);
void lst_hash_remove(lst_engine *e, lst_job *job);

/* dispatch.c, for the loops: the next job to run here or NULL; whether there
 * is none, so that the loop may sleep until it is woken; a job's end. */
lst_job *lst_engine_take(lst_loop *loop);
bool lst_engine_may_sleep(lst_loop *loop);
void lst_engine_awake(lst_loop *loop);
void lst_engine_finish(lst_loop *loop, lst_job *job);

/* dispatch.c, for the caller's side. */
bool lst_threaded(const lst_engine *e);
void lst_mark_cancelled(lst_job *job);
LS_MUST_CHECK
ls_code lst_start_threads(lst_engine *e);
void lst_wake_one(lst_engine *e);
void lst_wake_all(lst_engine *e);

/* events.c: while libcurl works in the caller's thread, a write to a dead
 * connection must not raise SIGPIPE: it is blocked, and taken back if it
 * came. */
typedef struct lst_quiet {
  sigset_t before;
  bool was_pending;
} lst_quiet;

void lst_quiet_begin(lst_quiet *q);
void lst_quiet_end(lst_quiet *q);

#endif
