/* HTTP/1.1 load on one thread and epoll, with latencies counted from when a request was due.
 *
 *   load --host H --port P [--tls] --requests FILE --connections N
 *        (--seconds S | --count N) [--warmup S] [--rate R [--poisson]] [--timeout S] [--idle S] [--stream] [--mark TEXT]
 *
 * Closed loop without --rate: each connection sends as soon as its answer is there. Open loop with it: requests fall
 * due on a clock that does not wait for answers; one that finds no free connection waits in a queue, and its wait is
 * part of its latency, so that a slow server cannot hide behind the requests it kept from being sent.
 *
 * A connection that was idle for longer than --idle is closed and opened again rather than used, as the pools of
 * clients do: a server may be closing it at that moment. The one that was used last is used first.
 *
 * FILE holds whole requests, each after its length (32 bits, little end first); they are sent in turn. Twelve @ in a
 * request are replaced by a number of twelve digits, another one each time. Prints one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
#endif

enum { READ_SIZE = 65536, HEAD_SIZE = 8192, SERIAL = 12, MOST_SERIALS = 4 };
enum { NOT_CONNECTED, CONNECTING, HANDSHAKE, IDLE, BUSY };
enum { HEAD, BODY_LENGTH, BODY_CHUNKS };
enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER };

typedef struct {
    char *bytes;
    uint32_t length;
    int num_serials;
    uint32_t serials[MOST_SERIALS];
} Request;

typedef struct {
    uint32_t *values;
    size_t length, room;
} Samples; /* microseconds */

typedef struct {
    int fd, state, parsing, chunk_state, status, closes, marked;
    uint32_t slot;
    int64_t due, sent, last_piece, idle_since;
    char *out;
    uint32_t out_length, out_done, out_room;
    char head[HEAD_SIZE];
    uint32_t head_length;
    uint64_t left;
    uint32_t frames, seen;
    int64_t worst_gap;
#ifdef WITH_TLS
    SSL *ssl;
#endif
} Connection;

static Request *requests;
static size_t num_requests;
static Connection *connections;
static uint32_t num_connections = 1, *idle, num_idle;
static int64_t *queue;
static size_t queue_room = 1 << 20, queue_first, queue_length, most_queued;
static int epoll_fd, use_tls, is_stream, poisson;
static struct sockaddr_in address;
static double rate, seconds = 10, warmup, timeout_s = 60, idle_s = 60;
static uint64_t count_limit;
static const char *mark;
static int64_t began, measure_from, stop_at;
static uint64_t started, ended, measured, by_status[600], marked_answers, bytes_read, frames_total, next_serial = 1;
static uint64_t failed_connect, failed_closed, failed_timeout, failed_answer, streams_stalled;
static Samples ok, refused, refused_after_sent, first_piece, gaps, worst_gaps, lateness, closed_after_idle;
static uint64_t random_state = 88172645463325252ull;
#ifdef WITH_TLS
static SSL_CTX *tls;
#endif

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void add(Samples *s, int64_t ns) {
    if (s->length == s->room) {
        s->room = s->room ? 2 * s->room : 4096;
        if (!(s->values = realloc(s->values, s->room * sizeof *s->values))) die("memory");
    }
    int64_t us = ns / 1000;
    s->values[s->length++] = us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static double uniform(void) { /* xorshift64; (0, 1] */
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return ((random_state >> 11) + 1) / 9007199254740992.0;
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    uint32_t length;
    while (fread(&length, 4, 1, file) == 1) {
        requests = realloc(requests, (num_requests + 1) * sizeof *requests);
        Request *r = &requests[num_requests++];
        r->length = length, r->num_serials = 0, r->bytes = malloc(length + 1);
        if (fread(r->bytes, 1, length, file) != length) die(path);
        r->bytes[length] = 0;
        char *at = r->bytes;
        while (r->num_serials < MOST_SERIALS && (at = memmem(at, r->bytes + length - at, "@@@@@@@@@@@@", SERIAL))) {
            r->serials[r->num_serials++] = at - r->bytes;
            at += SERIAL;
        }
    }
    fclose(file);
    if (!num_requests) die("no request in the file");
}

static void want(Connection *c, uint32_t events) {
    struct epoll_event e = {.events = events | EPOLLRDHUP, .data.u32 = c->slot};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e)) die("epoll_ctl");
}

static void be_idle(Connection *c) {
    c->state = IDLE, c->idle_since = now_ns();
    idle[num_idle++] = c->slot;
}

static void connect_it(Connection *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.u32 = c->slot};
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
    c->state = CONNECTING;
#ifdef WITH_TLS
    if (use_tls) {
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_connect_state(c->ssl);
    }
#endif
}

static void drop(Connection *c) {
#ifdef WITH_TLS
    if (c->ssl) SSL_free(c->ssl), c->ssl = NULL;
#endif
    if (c->state == IDLE)
        for (uint32_t i = 0; i < num_idle; i++)
            if (idle[i] == c->slot) {
                memmove(&idle[i], &idle[i + 1], (--num_idle - i) * sizeof *idle); /* the one used last stays last */
                break;
            }
    close(c->fd);
    c->state = NOT_CONNECTED;
    connect_it(c);
}

static void fail(Connection *c, uint64_t *counter) {
    if (c->state == BUSY) {
        ended++;
        if (c->due >= measure_from) {
            (*counter)++;
            if (counter == &failed_closed) add(&closed_after_idle, c->sent - c->idle_since);
        }
    } else if (c->state != IDLE)
        failed_connect++;
    drop(c);
}

/* The free connection that was used last; those that were idle for too long are opened again. NULL: there is none. */
static Connection *take_idle(int64_t now) {
    while (num_idle) {
        Connection *c = &connections[idle[num_idle - 1]];
        if (now - c->idle_since <= (int64_t)(idle_s * 1e9)) {
            num_idle--;
            return c;
        }
        drop(c);
    }
    return NULL;
}

/* -1: broken; 0: would block */
static ssize_t put(Connection *c, const char *bytes, size_t length) {
#ifdef WITH_TLS
    if (c->ssl) {
        int n = SSL_write(c->ssl, bytes, (int)length);
        if (n > 0) return n;
        int why = SSL_get_error(c->ssl, n);
        return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
#endif
    ssize_t n = send(c->fd, bytes, length, MSG_NOSIGNAL);
    return n >= 0 ? n : errno == EAGAIN ? 0 : -1;
}

/* -1: closed or broken; 0: would block */
static ssize_t get(Connection *c, char *into, size_t room) {
#ifdef WITH_TLS
    if (c->ssl) {
        int n = SSL_read(c->ssl, into, (int)room);
        if (n > 0) return n;
        int why = SSL_get_error(c->ssl, n);
        return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
#endif
    ssize_t n = recv(c->fd, into, room, 0);
    return n > 0 ? n : n == 0 ? -1 : errno == EAGAIN ? 0 : -1;
}

static int flush_out(Connection *c) {
    while (c->out_done < c->out_length) {
        ssize_t n = put(c, c->out + c->out_done, c->out_length - c->out_done);
        if (n < 0) return -1;
        if (n == 0) {
            want(c, EPOLLIN | EPOLLOUT);
            return 0;
        }
        c->out_done += n;
    }
    return 1;
}

static void send_one(Connection *c, int64_t due) {
    Request *r = &requests[started % num_requests];
    if (r->length > c->out_room) c->out = realloc(c->out, c->out_room = r->length);
    memcpy(c->out, r->bytes, r->length);
    if (r->num_serials) {
        char digits[SERIAL + 1];
        snprintf(digits, sizeof digits, "%012llu", (unsigned long long)next_serial++);
        for (int i = 0; i < r->num_serials; i++) memcpy(c->out + r->serials[i], digits, SERIAL);
    }
    c->out_length = r->length, c->out_done = 0;
    c->state = BUSY, c->parsing = HEAD, c->head_length = 0, c->due = due, c->sent = now_ns(), c->last_piece = 0;
    c->frames = 0, c->seen = 0, c->worst_gap = 0, c->marked = 0;
    started++;
    if (due >= measure_from) add(&lateness, c->sent - due);
    if (flush_out(c) < 0) fail(c, &failed_closed);
}

/* Time that this process could have run and had no processor, as Linux counts it; 0 where it does not. */
static double held_up_s(void) {
    unsigned long long ran = 0, waited = 0;
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (!file) return 0;
    if (fscanf(file, "%llu %llu", &ran, &waited) != 2) waited = 0;
    fclose(file);
    return waited / 1e9;
}

static int is_over(int64_t now) { return now >= stop_at || (count_limit && started >= count_limit); }

static void finish(Connection *c) {
    int64_t now = now_ns();
    ended++;
    if (c->due >= measure_from) {
        measured++;
        by_status[c->status]++;
        marked_answers += c->marked;
        frames_total += c->frames;
        add(c->status < 300 ? &ok : &refused, now - c->due);
        if (c->status >= 300) add(&refused_after_sent, now - c->sent);
        if (is_stream && c->status < 300) {
            add(&worst_gaps, c->worst_gap);
            if (c->worst_gap > 200000000) streams_stalled++;
        }
    }
    c->idle_since = now;
    if (c->closes) {
        c->state = NOT_CONNECTED;
        drop(c);
        return;
    }
    if (rate > 0) {
        if (queue_length) {
            int64_t due = queue[queue_first];
            queue_first = (queue_first + 1) % queue_room, queue_length--;
            send_one(c, due);
        } else
            be_idle(c);
    } else if (!is_over(now))
        send_one(c, now);
    else
        be_idle(c);
}

static void piece(Connection *c, const char *bytes, size_t length) {
    if (!is_stream || !length) return;
    static const char word[] = "data:";
    for (size_t i = 0; i < length; i++) { /* no prefix of the word repeats in it, so this is a whole search */
        c->seen = bytes[i] == word[c->seen] ? c->seen + 1 : bytes[i] == word[0];
        if (c->seen == 5) c->frames++, c->seen = 0;
    }
    int64_t now = now_ns();
    if (c->due >= measure_from) {
        if (!c->last_piece)
            add(&first_piece, now - c->due);
        else {
            add(&gaps, now - c->last_piece);
            if (now - c->last_piece > c->worst_gap) c->worst_gap = now - c->last_piece;
        }
    }
    c->last_piece = now;
}

/* Returns 1 when the answer is whole, -1 when it is no HTTP. */
static int take(Connection *c, const char *at, size_t length) {
    const char *end = at + length;
    while (at < end) {
        if (c->parsing == HEAD) {
            size_t n = end - at, room = HEAD_SIZE - 1 - c->head_length;
            if (n > room) n = room;
            memcpy(c->head + c->head_length, at, n);
            uint32_t before = c->head_length;
            c->head_length += n;
            c->head[c->head_length] = 0;
            char *stop = strstr(c->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
            if (!stop) {
                if (c->head_length == HEAD_SIZE - 1) return -1;
                return 0;
            }
            stop[2] = 0;
            at += (stop + 4 - c->head) - before;
            if (strncmp(c->head, "HTTP/1.", 7)) return -1;
            c->status = atoi(c->head + 9);
            if (c->status < 100 || c->status > 599) return -1;
            c->closes = strcasestr(c->head, "\r\nconnection: close") != NULL;
            c->marked = mark && strcasestr(c->head, mark);
            char *found = strcasestr(c->head, "\r\ncontent-length:");
            if (found) {
                c->parsing = BODY_LENGTH, c->left = strtoull(found + 17, NULL, 10);
                if (!c->left) return 1;
            } else if (strcasestr(c->head, "\r\ntransfer-encoding: chunked"))
                c->parsing = BODY_CHUNKS, c->chunk_state = CHUNK_SIZE, c->left = 0;
            else
                return -1;
        } else if (c->parsing == BODY_LENGTH) {
            size_t n = (size_t)(end - at) < c->left ? (size_t)(end - at) : c->left;
            piece(c, at, n);
            at += n, c->left -= n;
            if (!c->left) return 1;
        } else
            switch (c->chunk_state) {
                case CHUNK_SIZE: {
                    char x = *at++;
                    if (x == '\n')
                        c->chunk_state = c->left ? CHUNK_DATA : CHUNK_TRAILER, c->seen = c->left ? c->seen : 0;
                    else if (x >= '0' && x <= '9')
                        c->left = 16 * c->left + (x - '0');
                    else if ((x | 32) >= 'a' && (x | 32) <= 'f')
                        c->left = 16 * c->left + ((x | 32) - 'a' + 10);
                    else if (x != '\r')
                        return -1;
                    break;
                }
                case CHUNK_DATA: {
                    size_t n = (size_t)(end - at) < c->left ? (size_t)(end - at) : c->left;
                    piece(c, at, n);
                    at += n, c->left -= n;
                    if (!c->left) c->chunk_state = CHUNK_END;
                    break;
                }
                case CHUNK_END:
                    if (*at++ == '\n') c->chunk_state = CHUNK_SIZE, c->left = 0;
                    break;
                default: /* the empty line after the last chunk */
                    if (*at++ == '\n') return 1;
            }
    }
    return 0;
}

static void ready_to_send(Connection *c) {
    want(c, EPOLLIN);
    be_idle(c);
}

static void on_event(Connection *c, uint32_t events) {
    static char into[READ_SIZE];
    if (c->state == CONNECTING) {
        int fault = 0;
        socklen_t size = sizeof fault;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &fault, &size);
        if (fault) {
            failed_connect++;
            usleep(1000);
            drop(c);
            return;
        }
        if (!(events & EPOLLOUT)) return;
        c->state = HANDSHAKE;
    }
    if (c->state == HANDSHAKE) {
#ifdef WITH_TLS
        if (c->ssl) {
            int n = SSL_do_handshake(c->ssl);
            if (n != 1) {
                int why = SSL_get_error(c->ssl, n);
                if (why == SSL_ERROR_WANT_READ)
                    want(c, EPOLLIN);
                else if (why == SSL_ERROR_WANT_WRITE)
                    want(c, EPOLLIN | EPOLLOUT);
                else
                    fail(c, &failed_closed);
                return;
            }
        }
#endif
        ready_to_send(c);
        return;
    }
    if (c->state == BUSY && events & EPOLLOUT && c->out_done < c->out_length) {
        int sent = flush_out(c);
        if (sent < 0) {
            fail(c, &failed_closed);
            return;
        }
        if (sent) want(c, EPOLLIN);
    }
    if (!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return;
    for (;;) {
        ssize_t n = get(c, into, sizeof into);
        if (n == 0) return;
        if (n < 0 || c->state != BUSY) {
            fail(c, &failed_closed);
            return;
        }
        bytes_read += n;
        int whole = take(c, into, n);
        if (whole < 0) {
            fail(c, &failed_answer);
            return;
        }
        if (whole) {
            finish(c);
            return;
        }
        if (n < READ_SIZE && !use_tls) return;
    }
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void print_samples(const char *name, Samples *s) {
    qsort(s->values, s->length, sizeof *s->values, compare);
    double sum = 0;
    for (size_t i = 0; i < s->length; i++) sum += s->values[i];
#define AT(q) (s->length ? s->values[(size_t)((s->length - 1) * (q))] / 1e3 : 0.0)
    printf("\"%s\": {\"count\": %zu, \"mean_ms\": %.4f, \"p50_ms\": %.3f, \"p90_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"p999_ms\": %.3f, \"max_ms\": %.3f}, ",
           name, s->length, s->length ? sum / s->length / 1e3 : 0.0, AT(.5), AT(.9), AT(.99), AT(.999), AT(1.0));
}

int main(int argc, char **argv) {
    static struct option options[] = {
        {"host", 1, 0, 'h'},    {"port", 1, 0, 'p'},    {"requests", 1, 0, 'r'}, {"connections", 1, 0, 'c'},
        {"seconds", 1, 0, 's'}, {"count", 1, 0, 'n'},   {"warmup", 1, 0, 'w'},   {"rate", 1, 0, 'R'},
        {"poisson", 0, 0, 'P'}, {"timeout", 1, 0, 't'}, {"stream", 0, 0, 'S'},   {"mark", 1, 0, 'm'},
        {"tls", 0, 0, 'T'},     {"serial", 1, 0, 'f'},  {"idle", 1, 0, 'i'},     {0}};
    const char *host = "127.0.0.1", *path = NULL;
    int port = 0, o;
    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) switch (o) {
            case 'h': host = optarg; break;
            case 'p': port = atoi(optarg); break;
            case 'r': path = optarg; break;
            case 'c': num_connections = atoi(optarg); break;
            case 's': seconds = atof(optarg); break;
            case 'n': count_limit = strtoull(optarg, NULL, 10); break;
            case 'w': warmup = atof(optarg); break;
            case 'R': rate = atof(optarg); break;
            case 'P': poisson = 1; break;
            case 't': timeout_s = atof(optarg); break;
            case 'S': is_stream = 1; break;
            case 'm': mark = optarg; break;
            case 'T': use_tls = 1; break;
            case 'i': idle_s = atof(optarg); break;
            case 'f': next_serial = strtoull(optarg, NULL, 10); break;
            default: return 2;
        }
    if (!path || !port) {
        fprintf(stderr, "load: --port and --requests are needed\n");
        return 2;
    }
    read_requests(path);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
#ifdef WITH_TLS
    if (use_tls) {
        tls = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
#else
    if (use_tls) {
        fprintf(stderr, "load: built without TLS\n");
        return 2;
    }
#endif
    address.sin_family = AF_INET, address.sin_port = htons(port);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die(host);
    epoll_fd = epoll_create1(0);
    connections = calloc(num_connections, sizeof *connections);
    idle = calloc(num_connections, sizeof *idle);
    queue = malloc(queue_room * sizeof *queue);
    for (uint32_t i = 0; i < num_connections; i++) connections[i].slot = i, connect_it(&connections[i]);

    struct epoll_event events[512];
    int64_t patience = now_ns() + 20000000000ll;
    while (num_idle < num_connections) { /* all connections first: they are no part of what is measured */
        int n = epoll_wait(epoll_fd, events, 512, 1000);
        for (int i = 0; i < n; i++) on_event(&connections[events[i].data.u32], events[i].events);
        if (now_ns() > patience) die("could not connect");
    }
    struct rusage usage_before, usage;
    getrusage(RUSAGE_SELF, &usage_before);
    double held_up_before = held_up_s();
    began = now_ns();
    measure_from = began + (int64_t)(warmup * 1e9);
    stop_at = began + (int64_t)((warmup + seconds) * 1e9);
    int64_t next_due = began, next_look = began + 100000000;
    Connection *c;
    if (rate <= 0)
        while (!is_over(now_ns()) && (c = take_idle(now_ns()))) send_one(c, now_ns());
    for (;;) {
        int64_t now = now_ns();
        if (rate > 0) {
            while (next_due <= now && next_due < stop_at && !(count_limit && started + queue_length >= count_limit)) {
                if ((c = take_idle(now)))
                    send_one(c, next_due);
                else if (queue_length < queue_room) {
                    queue[(queue_first + queue_length++) % queue_room] = next_due;
                    if (queue_length > most_queued) most_queued = queue_length;
                }
                next_due += (int64_t)(1e9 / rate * (poisson ? -log(uniform()) : 1.0));
            }
            while (queue_length && (c = take_idle(now))) {
                int64_t due = queue[queue_first];
                queue_first = (queue_first + 1) % queue_room, queue_length--;
                send_one(c, due);
            }
        } else
            while (!is_over(now) && (c = take_idle(now))) send_one(c, now);
        if (now > next_look) {
            next_look = now + 100000000;
            for (uint32_t i = 0; i < num_connections; i++)
                if (connections[i].state == BUSY && now - connections[i].due > (int64_t)(timeout_s * 1e9))
                    fail(&connections[i], &failed_timeout);
        }
        int over = rate > 0 ? (next_due >= stop_at || (count_limit && started >= count_limit)) && !queue_length
                            : is_over(now);
        if (over && ended >= started) break;
        int64_t wait = 20000000;
        if (rate > 0 && next_due < stop_at && next_due - now < wait) wait = next_due > now ? next_due - now : 0;
        struct timespec t = {.tv_sec = 0, .tv_nsec = wait};
        int n = epoll_pwait2(epoll_fd, events, 512, &t, NULL);
        for (int i = 0; i < n; i++) on_event(&connections[events[i].data.u32], events[i].events);
    }
    int64_t end = now_ns();
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (usage.ru_utime.tv_sec - usage_before.ru_utime.tv_sec) +
                 (usage.ru_utime.tv_usec - usage_before.ru_utime.tv_usec) / 1e6 +
                 (usage.ru_stime.tv_sec - usage_before.ru_stime.tv_sec) +
                 (usage.ru_stime.tv_usec - usage_before.ru_stime.tv_usec) / 1e6;
    double span = ((rate > 0 && end > stop_at ? stop_at : end) - measure_from) / 1e9;
    printf("{\"sent\": %llu, \"answered\": %llu, \"seconds\": %.4f, \"statuses\": {", (unsigned long long)started,
           (unsigned long long)measured, span);
    for (int s = 0, n = 0; s < 600; s++)
        if (by_status[s]) printf("%s\"%d\": %llu", n++ ? ", " : "", s, (unsigned long long)by_status[s]);
    printf("}, \"failed\": {\"connect\": %llu, \"closed\": %llu, \"timeout\": %llu, \"answer\": %llu}, ",
           (unsigned long long)failed_connect, (unsigned long long)failed_closed, (unsigned long long)failed_timeout,
           (unsigned long long)failed_answer);
    print_samples("ok", &ok);
    print_samples("refused", &refused);
    print_samples("refused_after_sent", &refused_after_sent);
    print_samples("lateness", &lateness);
    print_samples("closed_after_idle", &closed_after_idle);
    if (is_stream) {
        print_samples("first_piece", &first_piece);
        print_samples("gaps", &gaps);
        print_samples("worst_gaps", &worst_gaps);
    }
    printf("\"frames\": %llu, \"stalled\": %llu, \"marked\": %llu, \"most_queued\": %zu, \"bytes_read\": %llu, "
           "\"cpu_s\": %.3f, \"held_up_s\": %.3f}\n",
           (unsigned long long)frames_total, (unsigned long long)streams_stalled, (unsigned long long)marked_answers,
           most_queued, (unsigned long long)bytes_read, cpu, held_up_s() - held_up_before);
    return 0;
}
