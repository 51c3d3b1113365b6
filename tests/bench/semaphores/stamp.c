/* Preloaded into whoever takes the lock: writes down when flock(2) gave it, on CLOCK_MONOTONIC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

int flock(int fd, int operation)
{
    int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
    int result = real(fd, operation);
    const char *stamps = getenv("STAMPS");
    if (result == 0 && (operation & LOCK_EX) && stamps) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        int out = open(stamps, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (out >= 0) {
            if (write(out, &ns, sizeof ns) < 0)
                abort();
            close(out);
        }
    }
    return result;
}
