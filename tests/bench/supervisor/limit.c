/* limit PROBE FILE N [chain]: the least a supervisor can do. Starts N, starts again what dies; SIGTERM ends all of
 * them, with "chain" one after the other from the last to the first. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t stop;
static char **words;
static pid_t *pids;

static void told(int number) { stop = number; }

static void start(long index) {
  char text[24], log[4200];
  snprintf(text, sizeof text, "%ld", index);
  snprintf(log, sizeof log, "%s.%ld.log", words[2], index);
  char *argv[] = {words[1], words[2], text, NULL}, *env[] = {"PATH=/usr/bin:/bin", NULL};
  pid_t pid = vfork();
  if (pid == 0) {
    setsid();
    signal(SIGTERM, SIG_DFL);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0640);
    dup2(fd, 1);
    dup2(fd, 2);
    close(fd);
    execve(words[1], argv, env);
    _exit(127);
  }
  pids[index] = pid;
}

static int by_pid(long count, pid_t pid) {
  for (long i = 0; i < count; i++)
    if (pids[i] == pid) return (int)i;
  return -1;
}

int main(int argc, char **argv) {
  words = argv;
  long count = argc > 3 ? atol(argv[3]) : 1;
  int chain = argc > 4;
  pids = calloc((size_t)count, sizeof *pids);
  struct sigaction action = {.sa_handler = told};
  sigaction(SIGTERM, &action, NULL);
  for (long i = 0; i < count; i++) start(i);
  while (!stop) {
    pid_t pid = waitpid(-1, NULL, 0);
    int index = pid > 0 ? by_pid(count, pid) : -1;
    if (index >= 0 && !stop) start(index);
  }
  for (long i = count - 1; i >= 0; i--) {
    kill(pids[i], SIGTERM);
    if (chain) waitpid(pids[i], NULL, 0);
  }
  while (waitpid(-1, NULL, 0) > 0) {}
  return 0;
}
