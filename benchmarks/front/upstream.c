/* An OpenAI-compatible upstream that answers at once, for gateways to stand in front of: one thread and epoll.
 *
 *   upstream PORT | /PATH/OF/A.sock
 *
 * POST: a chat completion, or the same as three events where the body holds "stream":true. GET: what health checks and
 * model lists ask for. It reads no more of a request than that, so that what is measured is what stands in front.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ROOM = 1 << 18, MOST_FILES = 8192 };

typedef struct {
    char *bytes;
    size_t length;
} Connection;

static Connection connections[MOST_FILES];

#define ANSWER                                                                                                     \
    "{\"id\":\"chatcmpl-0\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{"  \
    "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Paris is the capital of France, and has been for " \
    "most of its history.\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":16,"  \
    "\"total_tokens\":40}}"
#define CHUNK(delta, reason)                                                                                      \
    "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\","    \
    "\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" reason "}]}\n\n"
#define EVENTS                                                                                                    \
    CHUNK("{\"role\":\"assistant\",\"content\":\"Paris\"}", "null") CHUNK("{\"content\":\".\"}", "null")              \
    CHUNK("{}", "\"stop\"") "data: [DONE]\n\n"
#define LIST                                                                                                      \
    "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4o-mini\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"m\"," \
    "\"root\":\"gpt-4o-mini\",\"max_model_len\":8192}]}"
#define INFO "{\"model_path\":\"gpt-4o-mini\",\"served_model_name\":\"gpt-4o-mini\",\"is_generation\":true,\"status\":\"ok\"}"

static char whole[4096], stream[4096], list[1024], info[1024];

static void fill(char *into, const char *type, const char *body) {
    sprintf(into, "HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s", type, strlen(body), body);
}

static void stop(int fd) {
    close(fd);
    connections[fd].length = 0;
}

static int answer(int fd, const char *text) {
    size_t done = 0, length = strlen(text);
    while (done < length) {
        ssize_t n = send(fd, text + done, length - done, MSG_NOSIGNAL);
        if (n < 0) return -1;
        done += n;
    }
    return 0;
}

/* Answers every whole request in the buffer; -1 when the connection is to be closed. */
static int serve(int fd) {
    Connection *c = &connections[fd];
    for (;;) {
        c->bytes[c->length] = 0;
        char *end = strstr(c->bytes, "\r\n\r\n");
        if (!end) return c->length >= ROOM - 1 ? -1 : 0;
        *end = 0;
        char *announced = strcasestr(c->bytes, "\r\ncontent-length:");
        int chunked = strcasestr(c->bytes, "\r\ntransfer-encoding: chunked") != NULL;
        int last = strcasestr(c->bytes, "\r\nconnection: close") != NULL;
        *end = '\r';
        size_t head = end + 4 - c->bytes, body = announced ? strtoull(announced + 17, NULL, 10) : 0;
        char *body_end = chunked ? strstr(end + 4, "0\r\n\r\n") : NULL;
        if (chunked && !body_end) return 0;
        size_t size = chunked ? (size_t)(body_end + 5 - c->bytes) : head + body;
        if (size >= ROOM) return -1;
        if (c->length < size) return 0;
        const char *text = info;
        if (!strncmp(c->bytes, "POST", 4))
            text = memmem(c->bytes + head, size - head, "\"stream\":true", 13) ? stream : whole;
        else if (strstr(c->bytes, "/models"))
            text = list;
        if (answer(fd, text) || last) return -1;
        memmove(c->bytes, c->bytes + size, c->length - size);
        c->length -= size;
        if (!c->length) return 0;
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    signal(SIGPIPE, SIG_IGN);
    fill(whole, "application/json", ANSWER), fill(stream, "text/event-stream", EVENTS);
    fill(list, "application/json", LIST), fill(info, "application/json", INFO);
    int is_unix = argv[1][0] == '/', one = 1;
    int listener = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct sockaddr_un file = {.sun_family = AF_UNIX};
    strncpy(file.sun_path, argv[1], sizeof file.sun_path - 1);
    struct sockaddr *address = is_unix ? (struct sockaddr *)&file : (struct sockaddr *)&inet;
    if (bind(listener, address, is_unix ? sizeof file : sizeof inet) || listen(listener, 1024)) {
        perror("upstream");
        return 1;
    }
    int epoll_fd = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int come = accept4(listener, NULL, NULL, 0);
                if (come < 0) continue;
                if (come >= MOST_FILES) {
                    close(come);
                    continue;
                }
                if (!is_unix) setsockopt(come, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                if (!connections[come].bytes) connections[come].bytes = malloc(ROOM);
                connections[come].length = 0;
                e.events = EPOLLIN, e.data.fd = come;
                epoll_ctl(epoll_fd, EPOLL_CTL_ADD, come, &e);
                continue;
            }
            Connection *c = &connections[fd];
            ssize_t got = recv(fd, c->bytes + c->length, ROOM - 1 - c->length, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) {
                stop(fd);
                continue;
            }
            c->length += got;
            if (serve(fd)) stop(fd);
        }
    }
}
