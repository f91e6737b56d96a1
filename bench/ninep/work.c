// Metadata operations on a folder, timed: work FOLDER FILES. Prints "NAME NANOSECONDS" for each, of one operation.
// FOLDER/tree is a tree to walk; FOLDER/made must be a folder that is empty.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char block[4096];
static long entries;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static void check(int good, const char *what) {
  if (good) return;
  perror(what);
  exit(1);
}

static void create(const char *name) {
  int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
  check(fd >= 0 && close(fd) == 0, name);
}

static void look(const char *name) {
  struct stat s;
  check(lstat(name, &s) == 0, name);
}

static void put(const char *name) {
  int fd = open(name, O_WRONLY);
  check(fd >= 0 && write(fd, block, sizeof block) == sizeof block && close(fd) == 0, name);
}

static void get(const char *name) {
  int fd = open(name, O_RDONLY);
  check(fd >= 0 && read(fd, block, sizeof block) == sizeof block && close(fd) == 0, name);
}

static void change(const char *name) {
  char other[64];
  snprintf(other, sizeof other, "%s.", name);
  check(rename(name, other) == 0 && rename(other, name) == 0, name);
}

static void take(const char *name) {
  check(unlink(name) == 0, name);
}

static void walk(const char *name) {
  DIR *folder = opendir(name);
  check(folder != NULL && chdir(name) == 0, name);
  for (struct dirent *each = readdir(folder); each != NULL; each = readdir(folder)) {
    if (strcmp(each->d_name, ".") == 0 || strcmp(each->d_name, "..") == 0) continue;
    struct stat s;
    check(lstat(each->d_name, &s) == 0, each->d_name);
    entries++;
    if (S_ISDIR(s.st_mode)) walk(each->d_name);
  }
  closedir(folder);
  check(chdir("..") == 0, "..");
}

int main(int argc, char **argv) {
  static const struct { const char *name; void (*act)(const char *); int each; } steps[] = {
    { "create", create, 1 }, { "stat", look, 1 }, { "write", put, 1 }, { "read", get, 1 }, { "rename", change, 2 }, { "unlink", take, 1 },
  };
  check(argc == 3 && chdir(argv[1]) == 0 && chdir("made") == 0, "usage: work FOLDER FILES");
  int files = atoi(argv[2]);
  for (unsigned step = 0; step < sizeof steps / sizeof *steps; step++) {
    double from = now();
    for (int i = 0; i < files; i++) {
      char name[32];
      snprintf(name, sizeof name, "file-%d", i);
      steps[step].act(name);
    }
    printf("%s %.0f\n", steps[step].name, (now() - from) / files / steps[step].each);
  }
  check(chdir("..") == 0, "..");
  double from = now();
  walk("tree");
  printf("walk %.0f\n", (now() - from) / entries);
  return 0;
}
