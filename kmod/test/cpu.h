/* SPDX-License-Identifier: GPL-2.0 */
/* CPUs that go offline and come back. */
#ifndef KFLUX_TEST_CPU_H
#define KFLUX_TEST_CPU_H

#include "harness.h"

/* 0 or a negative errno. */
static inline int cpu_online(unsigned int cpu, bool online)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online", cpu);
	return kf_write_text(path, online ? "1" : "0");
}

#endif
