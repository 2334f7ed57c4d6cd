/*
 * A client that sends requests at a steady rate, each on a new connection, and uses almost no CPU itself.
 *
 *     paced PORT PATH SECRET RATE SECONDS     prints: RESPONSES ERRORS P50_US P99_US P99.9_US
 *
 * A request's time is from connect() to the end of the response. The clock sets the rate. After
 * a slow response, the client sends the overdue requests at once.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void sleep_until(long long at_ns)
{
    struct timespec at = {at_ns / 1000000000LL, at_ns % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)) { }
}

static int ask(int port, const char *request, size_t length)
{
    static char answer[65536];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {.tv_sec = 5};
    size_t received = 0;
    ssize_t got;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int is_good = connect(fd, (struct sockaddr *)&address, sizeof address) == 0
        && send(fd, request, length, MSG_NOSIGNAL) == (ssize_t)length;
    while (is_good && (got = recv(fd, answer + received, sizeof answer - 1 - received, 0)) != 0) {
        is_good = got > 0;
        received += is_good ? got : 0;
    }
    close(fd);
    answer[received] = 0;
    return is_good && !strncmp(answer, "HTTP/1.1 200", 12) && strstr(answer, "SecretAccessKey");
}

static int by_size(const void *left, const void *right)
{
    long long difference = *(const long long *)left - *(const long long *)right;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: paced PORT PATH SECRET RATE SECONDS\n");
        return 2;
    }
    int port = atoi(argv[1]), rate = atoi(argv[4]), responses = 0, errors = 0, count = (int)(rate * atof(argv[5]));
    long long *took_ns = calloc(count > 0 ? count : 1, sizeof *took_ns), start_ns = now_ns();
    char request[2048];
    size_t length = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: %s\r\nConnection: close\r\n\r\n", argv[2], port, argv[3]);
    for (int i = 0; i < count; i++) {
        sleep_until(start_ns + i * (1000000000LL / rate));
        long long sent_ns = now_ns();
        if (ask(port, request, length))
            took_ns[responses++] = now_ns() - sent_ns;
        else
            errors++;
    }
    qsort(took_ns, responses, sizeof *took_ns, by_size);
    printf("%d %d", responses, errors);
    for (int part = 0; part < 3; part++)
        printf(" %.1f", responses ? took_ns[(long)responses * (int[]){500, 990, 999}[part] / 1000] / 1e3 : 0.0);
    puts("");
    return 0;
}
