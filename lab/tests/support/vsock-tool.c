// Sockets between a guest and its host, for tests: busybox has none of this family (vsock(7)). Static and without a library, so that any C compiler makes it.
//
//   echo PORT               takes one connection and sends back all that comes, until the other side says that it is done
//   connect CID PORT        sends standard input, says that it is done, and writes what comes to standard output
//   stream CID PORT         connects and sends for ever
// Exit code 0, or 1 when something did not work.

typedef unsigned int u32;

enum { READ = 0, WRITE = 1, SOCKET = 41, CONNECT = 42, ACCEPT = 43, SHUTDOWN = 48, BIND = 49, LISTEN = 50, FORK = 57, EXIT = 60, WAIT4 = 61 };
enum { AF_VSOCK = 40, SOCK_STREAM = 1, SHUT_WR = 1, ANY = -1, PIECE = 65536 };

/** struct sockaddr_vm (linux/vm_sockets.h). */
struct address {
  unsigned short family, reserved;
  u32 port, cid;
  unsigned char rest[4];
};

static long call(long number, long a, long b, long c, long d) {
  long result;
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
}

static void __attribute__((noreturn)) leave(int code) {
  for (;;) call(EXIT, code, 0, 0, 0);
}

static u32 number(const char *text) {
  u32 value = 0;
  for (; *text; text++) value = value * 10 + (u32)(*text - '0');
  return value;
}

static char piece[PIECE];

static void copy(long from, long to) {
  for (;;) {
    long bytes = call(READ, from, (long)piece, PIECE, 0);
    if (bytes == 0) return;
    if (bytes < 0) leave(1);
    for (long done = 0; done < bytes;) {
      long wrote = call(WRITE, to, (long)piece + done, bytes - done, 0);
      if (wrote <= 0) leave(1);
      done += wrote;
    }
  }
}

static long opened(const char *cid, const char *port) {
  struct address to = {AF_VSOCK, 0, number(port), number(cid), {0}};
  long fd = call(SOCKET, AF_VSOCK, SOCK_STREAM, 0, 0);
  if (fd < 0 || call(CONNECT, fd, (long)&to, sizeof to, 0) < 0) leave(1);
  return fd;
}

static void __attribute__((noreturn, used)) start(long *stack) {
  long count = stack[0];
  char **words = (char **)(stack + 1);
  if (count == 3 && words[1][0] == 'e') {
    struct address at = {AF_VSOCK, 0, number(words[2]), (u32)ANY, {0}};
    long door = call(SOCKET, AF_VSOCK, SOCK_STREAM, 0, 0);
    if (door < 0 || call(BIND, door, (long)&at, sizeof at, 0) < 0 || call(LISTEN, door, 1, 0, 0) < 0) leave(1);
    call(WRITE, 2, (long)"ready\n", 6, 0);
    long fd = call(ACCEPT, door, 0, 0, 0);
    if (fd < 0) leave(1);
    copy(fd, fd);
    leave(0);
  }
  if (count != 4) leave(1);
  long fd = opened(words[2], words[3]);
  if (words[1][0] == 's') for (;;) if (call(WRITE, fd, (long)piece, PIECE, 0) <= 0) leave(1);
  long child = call(FORK, 0, 0, 0, 0);
  if (child == 0) {
    copy(0, fd);
    call(SHUTDOWN, fd, SHUT_WR, 0, 0);
    leave(0);
  }
  copy(fd, 1);
  int status = 1;
  call(WAIT4, child, (long)&status, 0, 0);
  leave(status == 0 ? 0 : 1);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call start\n");
