/*
 * A server that shows the upper limit of this machine: one thread, epoll, one fixed response of the size of credentials.
 * It only searches for the end of the request head and for the secret in it. A complete server is slower.
 *
 *     limit PORT SECRET
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 4096, HEAD = 4096, BODY = 1150, EVENTS = 256 };

static struct { size_t length; char head[HEAD]; } connection[CONNECTIONS];
static char response[BODY + 256];
static size_t response_length;
static const char *secret;

static void prepare_answer(void)
{
    /* The measuring client searches for SecretAccessKey. */
    char body[BODY + 1];
    memset(body, 'T', BODY);
    memcpy(body, "{\"SecretAccessKey\":\"", 20);
    memcpy(body + BODY - 2, "\"}", 2);
    body[BODY] = 0;
    response_length = snprintf(response, sizeof response,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", BODY, body);
}

static void read_and_answer(int fd)
{
    char *head = connection[fd].head;
    size_t *length = &connection[fd].length;
    ssize_t got = recv(fd, head + *length, HEAD - *length, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got > 0) {
        *length += got;
        if (*length < HEAD && !memmem(head, *length, "\r\n\r\n", 4))
            return;
        if (memmem(head, *length, secret, strlen(secret)))
            send(fd, response, response_length, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    *length = 0;
    close(fd);
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024)) {
        perror("limit");
        exit(1);
    }
    return fd;
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void accept_all(int epoll, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= CONNECTIONS)
            close(fd);
        else
            watch(epoll, fd);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: limit PORT SECRET\n");
        return 2;
    }
    secret = argv[2];
    prepare_answer();
    int listener = listen_on(atoi(argv[1])), epoll = epoll_create1(0);
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(epoll, listener);
            else
                read_and_answer(events[i].data.fd);
        }
    }
}
