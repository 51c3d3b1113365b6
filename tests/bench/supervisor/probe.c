/* probe FILE INDEX: as its first act writes down when it runs and who it is; then waits to be killed. */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (argc != 3) return 2;
  int fd = open(argv[1], O_RDWR);
  if (fd < 0) return 3;
  /* 64 bytes with the number of starts, then 32 for each program: time, pid, starts. */
  size_t slot = 8 + 4 * (size_t)atol(argv[2]);
  size_t length = (slot + 4) * 8;
  uint64_t *shared = mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (shared == MAP_FAILED) return 4;
  shared[slot] = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  shared[slot + 1] = (uint64_t)getpid();
  __atomic_fetch_add(&shared[slot + 2], 1, __ATOMIC_RELEASE);
  __atomic_fetch_add(&shared[0], 1, __ATOMIC_RELEASE);
  /* A measurement that is broken off leaves nothing behind. */
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) pause();
}
