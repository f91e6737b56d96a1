// Reads or writes a disk past the guest's page cache, with so many requests at a time (a thread for each), for so many milliseconds.
// load DEVICE read|write random|along BLOCK_BYTES DEPTH MILLISECONDS -> "REQUESTS MICROSECONDS"
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int disk, writes, at_random;
static size_t block;
static uint64_t blocks, next_block, end_ns;
static volatile int failed;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static void *work(void *seed)
{
	uint64_t random = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 1, done = 0;
	void *buffer = 0;
	if (posix_memalign(&buffer, 4096, block) != 0)
		failed = 1;
	else
		memset(buffer, 0x5a, block);
	while (!failed && now_ns() < end_ns) {
		uint64_t which;
		if (at_random) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			which = random % blocks;
		} else
			which = __atomic_fetch_add(&next_block, 1, __ATOMIC_RELAXED) % blocks;
		ssize_t moved = writes ? pwrite(disk, buffer, block, which * block) : pread(disk, buffer, block, which * block);
		if (moved != (ssize_t)block)
			failed = 1;
		done++;
	}
	return (void *)done;
}

int main(int count, char **words)
{
	if (count != 7)
		return 2;
	writes = strcmp(words[2], "write") == 0;
	at_random = strcmp(words[3], "random") == 0;
	block = strtoul(words[4], 0, 10);
	int depth = atoi(words[5]);
	disk = open(words[1], (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
	if (disk < 0 || depth < 1 || depth > 64) {
		perror(words[1]);
		return 1;
	}
	blocks = lseek(disk, 0, SEEK_END) / block;
	uint64_t start = now_ns();
	end_ns = start + strtoull(words[6], 0, 10) * 1000000u;
	pthread_t threads[64];
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int i = 0; i < depth; i++)
		if (pthread_create(&threads[i], &small, work, (void *)(uintptr_t)(i + 1)) != 0)
			return 1;
	uint64_t all = 0;
	for (int i = 0; i < depth; i++) {
		void *done;
		pthread_join(threads[i], &done);
		all += (uintptr_t)done;
	}
	printf("%llu %llu\n", (unsigned long long)all, (unsigned long long)((now_ns() - start) / 1000));
	return failed;
}
