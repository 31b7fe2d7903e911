/* SPDX-License-Identifier: GPL-2.0 */
/* Every ioctl of the contract, for cases that go through all of them. */
#ifndef KFLUX_TEST_IOCTLS_H
#define KFLUX_TEST_IOCTLS_H

#include "world.h"

enum target { ANY, DOMAIN, VM };

struct one_ioctl {
	const char *name;
	unsigned long request;
	uint32_t bytes; /* of its argument; 0: it takes none */
	enum target target;
};

static const struct one_ioctl all_ioctls[] = {
	{"HELLO", FLUX_KF_HELLO, sizeof(struct flux_kf_hello), ANY},
	{"JOIN", FLUX_KF_JOIN, sizeof(struct flux_kf_join), DOMAIN},
	{"CLAIM", FLUX_KF_CLAIM, sizeof(struct flux_kf_claim), DOMAIN},
	{"RELEASE", FLUX_KF_RELEASE, 0, DOMAIN},
	{"SUBMIT", FLUX_KF_SUBMIT, sizeof(struct flux_kf_submit), DOMAIN},
	{"VM_CREATE", FLUX_KF_VM_CREATE, sizeof(struct flux_kf_vm), DOMAIN},
	{"REGISTER", FLUX_KF_REGISTER, sizeof(struct flux_kf_register), VM},
	{"PARK", FLUX_KF_PARK, sizeof(struct flux_kf_turn), VM},
	{"RUN", FLUX_KF_RUN, sizeof(struct flux_kf_turn), VM},
	{"UNREGISTER", FLUX_KF_UNREGISTER, sizeof(struct flux_kf_vcpu), VM},
	{"MANAGE", FLUX_KF_MANAGE, 0, VM},
	{"UNMANAGE", FLUX_KF_UNMANAGE, 0, VM},
	{"END", FLUX_KF_END, 0, VM},
};
#define IOCTLS (sizeof(all_ioctls) / sizeof(all_ioctls[0]))

#endif
