/* signaller hold FILE: locks, says so, and holds on until its input ends.
 * signaller fork FILE: the same in a child, after whoever took the lock is gone.
 * signaller loop N FILE: locks so often, up to 0.2 ms after each open; says how often in vain. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int opened(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    if (fd < 0) {
        perror(path);
        exit(2);
    }
    return fd;
}

int main(int argc, char **argv)
{
    char byte;
    if (argc == 4 && !strcmp(argv[1], "loop")) {
        long failures = 0;
        for (long n = atol(argv[2]); n > 0; n--) {
            int fd = opened(argv[3]);
            long long until = now() + rand() % 200000;
            while (now() < until)
                ;
            failures += flock(fd, LOCK_EX | LOCK_NB) < 0;
            close(fd);
        }
        printf("%ld\n", failures);
        return 0;
    }
    if (argc != 3)
        return 2;
    int fd = opened(argv[2]);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return 1;
    if (!strcmp(argv[1], "fork")) {
        pid_t parent = getpid();
        if (fork() > 0)
            _exit(0);
        while (getppid() == parent)
            ;
    }
    puts("held");
    fflush(stdout);
    while (read(0, &byte, 1) > 0 || errno == EINTR)
        ;
    return 0;
}
