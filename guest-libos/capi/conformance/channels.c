/* fluxos.h: channels and timers. */
#include "tap.h"

/* As libfluxos has them. */
_Static_assert(sizeof(flux_channel_t) == 240, "flux_channel_t");
_Static_assert(offsetof(flux_channel_t, buffer) == 192, "flux_channel_t.buffer");
_Static_assert(offsetof(flux_channel_t, closed) == 232, "flux_channel_t.closed");
_Static_assert(sizeof(flux_timer_t) == 40, "flux_timer_t");

struct item {
	long number;
	char text[12];
};

enum { ITEMS = 400, SENDERS = 3 };

static flux_channel_t channel;

static struct item buffer[5];

static void *sends(void *arg)
{
	struct item item = {0, "item"};

	for (int i = 1; i <= ITEMS; i++) {
		item.number = i;
		if (flux_channel_send(&channel, &item, FLUX_NEVER) != 0)
			return NULL;
	}
	return arg;
}

static void *receives(void *arg)
{
	long total = 0;
	struct item item;
	int result;

	while ((result = flux_channel_receive(&channel, &item, FLUX_NEVER)) == 0)
		total += strcmp(item.text, "item") == 0 ? item.number : -1000000;
	(void)arg;
	return result == EPIPE ? (void *)total : NULL;
}

static void everything_sent_is_received_once(void)
{
	flux_thread_t senders[SENDERS], receivers[2];
	void *value;
	long total = 0;

	NEED(flux_channel_init(&channel, buffer, sizeof(buffer[0]), 5) == 0);
	for (int i = 0; i < 2; i++)
		NEED(flux_spawn(&receivers[i], receives, NULL) == 0);
	for (int i = 0; i < SENDERS; i++)
		NEED(flux_spawn(&senders[i], sends, &channel) == 0);
	for (int i = 0; i < SENDERS; i++)
		CHECK(flux_join(senders[i], &value) == 0 && value == &channel);
	CHECK(flux_channel_close(&channel) == 0);
	for (int i = 0; i < 2; i++) {
		CHECK(flux_join(receivers[i], &value) == 0);
		total += (long)value;
	}
	CHECK(total == SENDERS * (ITEMS * (ITEMS + 1) / 2));
}

static void a_channel_keeps_order_and_refuses_what_does_not_fit(void)
{
	long words[2], word = 0;

	NEED(flux_channel_init(&channel, words, sizeof(long), 2) == 0);
	CHECK(flux_channel_receive(&channel, &word, 0) == ETIMEDOUT);
	for (long i = 1; i <= 2; i++)
		CHECK(flux_channel_send(&channel, &i, 0) == 0);
	CHECK(flux_channel_send(&channel, &word, 0) == ETIMEDOUT);
	CHECK(flux_channel_send(&channel, &word, flux_now_ns() + 100000) == ETIMEDOUT);
	CHECK(flux_channel_close(&channel) == 0);
	CHECK(flux_channel_send(&channel, &word, FLUX_NEVER) == EPIPE);
	for (long i = 1; i <= 2; i++)
		CHECK(flux_channel_receive(&channel, &word, 0) == 0 && word == i);
	CHECK(flux_channel_receive(&channel, &word, FLUX_NEVER) == EPIPE);
	CHECK(flux_channel_init(&channel, NULL, 8, 2) == EINVAL);
	CHECK(flux_channel_init(&channel, words, 0, 2) == EINVAL);
	CHECK(flux_channel_init(&channel, words, ~(size_t)0, 2) == EINVAL);
	CHECK(flux_channel_send(NULL, &word, 0) == EINVAL);
}

static int fired;

static uint64_t fired_at;

static void fires(void *arg)
{
	fired_at = flux_now_ns();
	add(arg, 1);
}

static flux_timer_t timer;

static void a_timer_fires_once_and_not_before_its_time(void)
{
	uint64_t when = flux_now_ns() + 2000000;

	store(&fired, 0);
	NEED(flux_timer_arm(&timer, when, fires, &fired) == 0);
	UNTIL(load(&fired) == 1);
	CHECK(fired_at >= when);
	CHECK(flux_timer_disarm(&timer) == ESRCH);
	CHECK(load(&fired) == 1);
	CHECK(flux_timer_disarm(&timer) == ESRCH);
}

static void a_disarmed_timer_does_not_fire_and_can_be_armed_again(void)
{
	store(&fired, 0);
	for (int i = 0; i < 20; i++) {
		NEED(flux_timer_arm(&timer, flux_now_ns() + 3600000000000ul, fires, &fired) == 0);
		CHECK(flux_timer_arm(&timer, 0, fires, &fired) == EBUSY);
		if (i % 2)
			others();
		NEED(flux_timer_disarm(&timer) == 0);
	}
	CHECK(load(&fired) == 0);
	NEED(flux_timer_arm(&timer, 0, fires, &fired) == 0);
	UNTIL(load(&fired) == 1);
	/* One that has fired can be armed without being disarmed. */
	NEED(flux_timer_arm(&timer, FLUX_NEVER, fires, &fired) == 0);
	CHECK(flux_timer_disarm(&timer) == 0);
	CHECK(flux_timer_arm(&timer, 0, NULL, NULL) == EINVAL);
	CHECK(flux_timer_arm(NULL, 0, fires, NULL) == EINVAL);
	CHECK(flux_timer_disarm(NULL) == EINVAL);
}

static void fires_again(void *arg)
{
	if (add(&fired, 1) < 10)
		CHECK(flux_timer_arm(arg, flux_now_ns() + 50000, fires_again, arg) == 0);
}

static void a_timer_can_arm_itself_again(void)
{
	store(&fired, 0);
	NEED(flux_timer_arm(&timer, 0, fires_again, &timer) == 0);
	UNTIL(load(&fired) == 10);
	CHECK(flux_timer_disarm(&timer) == ESRCH);
}

CASES(CASE(everything_sent_is_received_once), CASE(a_channel_keeps_order_and_refuses_what_does_not_fit),
      CASE(a_timer_fires_once_and_not_before_its_time), CASE(a_disarmed_timer_does_not_fire_and_can_be_armed_again),
      CASE(a_timer_can_arm_itself_again))
