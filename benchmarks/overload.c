/* Both ends of an overload, lean enough to share one core: senders that never pause, and an AWS that answers.
 *
 *   overload send FIGURES PORT CONNECTIONS REQUEST PER_POST WINDOW
 *   overload sink FIGURES PORT DELAY_MS
 *
 * FIGURES is a file of 8 counters of 64 bits that both map and whoever measures reads:
 *   0 calls answered by the sink    1 events in them      2 answers 2xx    3 answers 429 or 503
 *   4 other answers                 5 connections lost    6 events of answers 2xx
 *   7 set to 1 by the one who measures: stop
 *
 * REQUEST is a file with one whole HTTP request, the same every time but for each ##########, which becomes a
 * number that is used once. WINDOW 0: a connection sends again as soon as it is answered, whatever the answer.
 * Else the senders pace themselves: at most WINDOW accepted events are on their way at any time, and who is
 * refused waits 20 ms.
 *
 * The sink counts "Source" in a body as an event, which is right for PutEvents and the bodies sent here.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CALLS, EVENTS, TAKEN, REFUSED, OTHER, LOST, ACCEPTED, STOP, FIGURES };
enum { MAX_CONNECTIONS = 2048, SINK_ROOM = 1 << 20, ANSWER_ROOM = 1 << 18, DIGITS = 10 };

static volatile uint64_t *figures;
static int poller;

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void watch(int fd, uint32_t id, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = id};
    if (epoll_ctl(poller, how, fd, &event) < 0) die("epoll_ctl");
}

/* The length of the message at the start of the buffer, 0 while it is not whole. */
static size_t whole(const char *buffer, size_t size, size_t *head) {
    const char *end = memmem(buffer, size, "\r\n\r\n", 4);
    if (!end) return 0;
    *head = end + 4 - buffer;
    const char *at = buffer;
    size_t length = 0;
    while (at < end) {
        if (!strncasecmp(at, "content-length:", 15)) length = strtoul(at + 15, NULL, 10);
        const char *next = memmem(at, end - at, "\r\n", 2);
        if (!next) break;
        at = next + 2;
    }
    return size >= *head + length ? *head + length : 0;
}

/* --- senders */

struct sender { int fd; size_t sent, got; char *request, *answer; double again; int busy; };
static struct sender senders[MAX_CONNECTIONS];
static char *pattern;
static size_t pattern_size, places[4096];
static int place_count, per_post;
static uint64_t number, window, outstanding;

static void number_it(char *request) {
    for (int i = 0; i < place_count; i++) {
        uint64_t value = number++;
        for (int digit = DIGITS - 1; digit >= 0; digit--, value /= 10) request[places[i] + digit] = '0' + value % 10;
    }
}

static void lose(uint32_t id);

static void flow(uint32_t id) {
    struct sender *s = &senders[id];
    while (s->sent < pattern_size) {
        ssize_t n = send(s->fd, s->request + s->sent, pattern_size - s->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) { watch(s->fd, id, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT); return; }
        if (n < 0) { lose(id); return; }
        s->sent += n;
    }
    watch(s->fd, id, EPOLL_CTL_MOD, EPOLLIN);
}

static void begin(uint32_t id) {
    struct sender *s = &senders[id];
    if (window) {
        if (figures[ACCEPTED] + outstanding + per_post > figures[EVENTS] + window) { s->again = now() + 0.0005; return; }
        outstanding += per_post;
    }
    s->again = 0;
    s->busy = 1;
    s->sent = s->got = 0;
    number_it(s->request);
    flow(id);
}

static int port;

static void dial(uint32_t id) {
    struct sender *s = &senders[id];
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &where.sin_addr);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s->fd, (void *)&where, sizeof where) < 0) { close(s->fd); s->fd = -1; s->again = now() + 0.1; return; }
    int one = 1;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    watch(s->fd, id, EPOLL_CTL_ADD, EPOLLIN);
    begin(id);
}

static void lose(uint32_t id) {
    struct sender *s = &senders[id];
    if (window && s->busy) outstanding -= per_post;
    s->busy = 0;
    figures[LOST]++;
    close(s->fd);
    s->fd = -1;
    s->again = now() + 0.01;
}

static void answered(uint32_t id) {
    struct sender *s = &senders[id];
    ssize_t n = recv(s->fd, s->answer + s->got, ANSWER_ROOM - s->got, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { lose(id); return; }
    s->got += n;
    size_t head, size = whole(s->answer, s->got, &head);
    if (!size) return;
    int status = atoi(s->answer + 9);
    if (window) outstanding -= per_post;
    s->busy = 0;
    if (status / 100 == 2) { figures[TAKEN]++; figures[ACCEPTED] += per_post; }
    else if (status == 429 || status == 503) { figures[REFUSED]++; }
    else { if (!figures[OTHER]++) fprintf(stderr, "%.*s\n", (int)s->got, s->answer); }
    if (window && status / 100 != 2) s->again = now() + 0.02;
    else begin(id);
}

static int send_all(char **argument) {
    port = atoi(argument[0]);
    int connections = atoi(argument[1]);
    FILE *file = fopen(argument[2], "rb");
    if (!file || connections > MAX_CONNECTIONS) die("arguments");
    pattern = malloc(1 << 24);
    pattern_size = fread(pattern, 1, 1 << 24, file);
    per_post = atoi(argument[3]);
    window = strtoull(argument[4], NULL, 10);
    for (char *at = pattern; (at = memmem(at, pattern + pattern_size - at, "##########", DIGITS)); at += DIGITS)
        if (place_count < 4096) places[place_count++] = at - pattern;
    for (int id = 0; id < connections; id++) {
        senders[id].request = malloc(pattern_size);
        senders[id].answer = malloc(ANSWER_ROOM);
        memcpy(senders[id].request, pattern, pattern_size);
        dial(id);
    }
    struct epoll_event ready[256];
    double checked = now();
    while (!figures[STOP]) {
        int count = epoll_wait(poller, ready, 256, 1);
        for (int i = 0; i < count; i++) {
            uint32_t id = ready[i].data.u32;
            if (senders[id].fd < 0) continue;
            if (ready[i].events & EPOLLOUT) flow(id);
            if (senders[id].fd >= 0 && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) answered(id);
        }
        double at = now();
        if (at - checked < 0.0005) continue;
        checked = at;
        for (int id = 0; id < connections; id++)
            if (senders[id].again && senders[id].again <= at) { if (senders[id].fd < 0) dial(id); else begin(id); }
    }
    return 0;
}

/* --- sink */

struct call { int fd; size_t got; char *buffer; };
static struct call calls[MAX_CONNECTIONS];
struct later { double at; int fd; uint32_t id; size_t size; int events; char *answer; struct later *next; };
static struct later *first, **last = &first;


static void give(int fd, const char *answer, size_t size, int events) {
    if (send(fd, answer, size, MSG_NOSIGNAL) == (ssize_t)size) { figures[CALLS]++; figures[EVENTS] += events; }
}

static void called(uint32_t id, double delay) {
    struct call *c = &calls[id];
    ssize_t n = recv(c->fd, c->buffer + c->got, SINK_ROOM - c->got, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { close(c->fd); c->fd = -1; return; }
    c->got += n;
    size_t head, size;
    while ((size = whole(c->buffer, c->got, &head))) {
        static char body[1 << 18], answer[1 << 18];
        int events = 0;
        for (char *at = c->buffer + head; (at = memmem(at, c->buffer + size - at, "\"Source\"", 8)); at += 8) events++;
        size_t length = sprintf(body, "{\"FailedEntryCount\":0,\"Entries\":[");
        for (int i = 0; i < events; i++)
            length += sprintf(body + length, "%s{\"EventId\":\"11710aed-b79e-4468-a20b-bb3c0c3b4860\"}", i ? "," : "");
        length += sprintf(body + length, "]}");
        int all = sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %zu\r\n\r\n%.*s",
                          length, (int)length, body);
        if (delay > 0) {
            struct later *l = malloc(sizeof *l);
            *l = (struct later){now() + delay, c->fd, id, all, events, malloc(all), NULL};
            memcpy(l->answer, answer, all);
            *last = l;
            last = &l->next;
        } else {
            give(c->fd, answer, all, events);
        }
        memmove(c->buffer, c->buffer + size, c->got - size);
        c->got -= size;
    }
}

static int serve(char **argument) {
    double delay = atof(argument[1]) / 1000;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(argument[0]))};
    inet_pton(AF_INET, "127.0.0.1", &where.sin_addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&where, sizeof where) < 0 || listen(listener, 512) < 0) die("listen");
    watch(listener, MAX_CONNECTIONS, EPOLL_CTL_ADD, EPOLLIN);
    for (int id = 0; id < MAX_CONNECTIONS; id++) calls[id].fd = -1;
    struct epoll_event ready[256];
    while (!figures[STOP]) {
        int count = epoll_wait(poller, ready, 256, first ? 1 : 100);
        for (int i = 0; i < count; i++) {
            uint32_t id = ready[i].data.u32;
            if (id < MAX_CONNECTIONS) { if (calls[id].fd >= 0) called(id, delay); continue; }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            for (id = 0; fd >= 0 && id < MAX_CONNECTIONS && calls[id].fd >= 0; id++) {}
            if (fd < 0 || id == MAX_CONNECTIONS) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            calls[id].fd = fd;
            calls[id].got = 0;
            if (!calls[id].buffer) calls[id].buffer = malloc(SINK_ROOM);
            watch(fd, id, EPOLL_CTL_ADD, EPOLLIN);
        }
        while (first && first->at <= now()) {
            struct later *l = first;
            if (!(first = l->next)) last = &first;
            if (calls[l->id].fd == l->fd) give(l->fd, l->answer, l->size, l->events);
            free(l->answer);
            free(l);
        }
    }
    return 0;
}

int main(int count, char **argument) {
    if (count < 5) die("arguments");
    int file = open(argument[2], O_RDWR);
    if (file < 0) die("figures");
    figures = mmap(NULL, FIGURES * sizeof *figures, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (figures == MAP_FAILED) die("mmap");
    poller = epoll_create1(0);
    return argument[1][1] == 'e' ? send_all(argument + 3) : serve(argument + 3);
}
