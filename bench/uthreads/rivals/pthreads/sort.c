/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parallel quicksort. There are more parts than threads would be good for, so a pool of as many
 * threads as there are cores takes them from one stack; what is small is sorted at once.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "rival.h"

#define CUTOFF 8192
#define INSERTION 24
#define STACK_MAX 65536

static uint32_t *data;

static void swap(uint32_t *a, uint32_t *b)
{
	uint32_t t = *a;

	*a = *b;
	*b = t;
}

/* Hoare's partition around the median of three; both parts are smaller than `n`. */
static size_t partition(uint32_t *v, size_t n)
{
	size_t i = 0, j = n - 1;
	uint32_t pivot;

	if (v[n / 2] < v[0])
		swap(&v[n / 2], &v[0]);
	if (v[n - 1] < v[0])
		swap(&v[n - 1], &v[0]);
	if (v[n - 1] < v[n / 2])
		swap(&v[n - 1], &v[n / 2]);
	pivot = v[n / 2];
	for (;;) {
		do
			i++;
		while (v[i] < pivot);
		do
			j--;
		while (v[j] > pivot);
		if (i >= j)
			return j + 1;
		swap(&v[i], &v[j]);
	}
}

static void insertion(uint32_t *v, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		uint32_t x = v[i];
		size_t j = i;

		for (; j > 0 && v[j - 1] > x; j--)
			v[j] = v[j - 1];
		v[j] = x;
	}
}

static void sort_here(uint32_t *v, size_t n)
{
	while (n > INSERTION) {
		size_t left = partition(v, n);

		if (left < n - left) {
			sort_here(v, left);
			v += left;
			n -= left;
		} else {
			sort_here(v + left, n - left);
			n = left;
		}
	}
	insertion(v, n);
}

struct part {
	uint32_t *v;
	size_t n;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct part parts[STACK_MAX];
	size_t parts_len, open;
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void push(uint32_t *v, size_t n)
{
	pthread_mutex_lock(&pool.lock);
	if (pool.parts_len == STACK_MAX)
		give_up("too many parts", 0);
	pool.parts[pool.parts_len++] = (struct part){ v, n };
	pool.open++;
	pthread_mutex_unlock(&pool.lock);
	pthread_cond_signal(&pool.changed);
}

static void *worker(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&pool.lock);
	for (;;) {
		struct part part;

		while (pool.parts_len == 0 && pool.open > 0)
			pthread_cond_wait(&pool.changed, &pool.lock);
		if (pool.open == 0)
			break;
		part = pool.parts[--pool.parts_len];
		pthread_mutex_unlock(&pool.lock);
		while (part.n > CUTOFF) {
			size_t left = partition(part.v, part.n);

			push(part.v, left);
			part.v += left;
			part.n -= left;
		}
		sort_here(part.v, part.n);
		pthread_mutex_lock(&pool.lock);
		if (--pool.open == 0)
			pthread_cond_broadcast(&pool.changed);
	}
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

static void fill(size_t n)
{
	uint64_t x = 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		data[i] = (uint32_t)(x >> 32);
	}
}

/* `ops` is how many numbers are sorted. */
uint64_t row_sort(uint64_t ops)
{
	static size_t room;
	pthread_t threads[64];
	size_t n = ops;
	uint64_t start;
	cpu_set_t cores;
	int count;

	if (n > room) {
		data = realloc(data, n * sizeof(*data));
		if (data == NULL)
			give_up("out of memory", 0);
		room = n;
	}
	fill(n);
	if (sched_getaffinity(0, sizeof(cores), &cores) != 0)
		give_up("sched_getaffinity", 0);
	count = CPU_COUNT(&cores);
	if (count > 64)
		count = 64;
	start = now_ns();
	push(data, n);
	for (int i = 1; i < count; i++)
		must(pthread_create(&threads[i], NULL, worker, NULL), "pthread_create");
	worker(NULL);
	for (int i = 1; i < count; i++)
		must(pthread_join(threads[i], NULL), "pthread_join");
	start = now_ns() - start;
	for (size_t i = 1; i < n; i++)
		if (data[i - 1] > data[i])
			give_up("the numbers are not sorted", 0);
	return start;
}
