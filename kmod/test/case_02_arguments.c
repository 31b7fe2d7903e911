// SPDX-License-Identifier: GPL-2.0
/* Words that have no meaning, pointers that are none, objects that are not there. */
#define GROUP "arguments"
#include "world.h"

CASE("JOIN: unknown flags, domains that are not there, a second time")
{
	int fd = kf_opened();
	uint32_t id = 0, other;
	struct flux_kf_join odd = {.reserved = {1, 0}};

	RESULT(kf_join(fd, &id, 2), -EINVAL);
	RESULT(kf_join(fd, &id, 0x80000000), -EINVAL);
	id = 0x7fffffff;
	RESULT(kf_join(fd, &id, 0), -ENOENT);
	RESULT(kf_join(fd, &id, FLUX_KF_JOIN_VIEW), -ENOENT);
	RESULT(kf_ioctl(fd, FLUX_KF_JOIN, &odd), -EINVAL);
	id = 0;
	OK(kf_join(fd, &id, 0));
	CHECK(id != 0);
	other = 0;
	RESULT_IN(kf_join(fd, &other, 0), -EBUSY, -EEXIST, -EINVAL);
	other = id;
	RESULT_IN(kf_join(fd, &other, 0), -EBUSY, -EEXIST, -EINVAL);
	/* A view of nothing has no sense. */
	fd = kf_opened();
	other = 0;
	RESULT_IN(kf_join(fd, &other, FLUX_KF_JOIN_VIEW), -EINVAL, -ENOENT);
}

CASE("CLAIM, SUBMIT and VM_CREATE without a domain are refused")
{
	int fd = kf_opened();
	struct flux_kf_submit batch = {0};
	struct flux_kf_vm vm = {.vcpus = 1};

	RESULT_IN(kf_claim(fd, MASK_AB, 1000, 0, NULL), -ENOENT, -EINVAL);
	RESULT_IN(kf_ioctl(fd, FLUX_KF_SUBMIT, &batch), -ENOENT, -EINVAL, -ESTALE);
	RESULT_IN(kf_ioctl(fd, FLUX_KF_VM_CREATE, &vm), -ENOENT, -EINVAL);
	RESULT_IN(kf_ioctl(fd, FLUX_KF_RELEASE, NULL), -ENOENT, -EINVAL, -ESTALE);
}

CASE("CLAIM: lease times, masks, flags and reserved words")
{
	int fd = kf_opened();
	uint32_t id = 0, epoch;
	struct flux_kf_claim claim = {.managed = {MASK_AB}, .lease_ms = 1000, .reserved = {0, 0, 1}};

	OK(kf_join(fd, &id, 0));
	RESULT(kf_claim(fd, MASK_AB, 0, 0, NULL), -EINVAL);
	RESULT(kf_claim(fd, MASK_AB, 9, 0, NULL), -EINVAL);
	RESULT(kf_claim(fd, MASK_AB, 60001, 0, NULL), -EINVAL);
	RESULT(kf_claim(fd, MASK_AB, 0xffffffff, 0, NULL), -EINVAL);
	RESULT(kf_claim(fd, MASK_AB, 1000, 2, NULL), -EINVAL);
	RESULT(kf_claim(fd, 0, 1000, 0, NULL), -EINVAL);
	RESULT(kf_ioctl(fd, FLUX_KF_CLAIM, &claim), -EINVAL);
	claim.reserved[2] = 0;
	claim.managed[7] = 0x80000000; /* core 255 */
	if (cpus() < 256)
		RESULT_IN(kf_ioctl(fd, FLUX_KF_CLAIM, &claim), -EINVAL, -ENODEV);
	OK(kf_claim(fd, MASK_AB, 10, 0, &epoch));
	OK(kf_ioctl(fd, FLUX_KF_RELEASE, NULL));
	OK(kf_claim(fd, MASK_AB, 60000, 0, &epoch));
}

CASE("a claim after a release has a newer epoch")
{
	struct domain *domain = domain_new(MASK_AB);
	uint32_t epoch;

	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	SAME(domain->status->leased, 0);
	RESULT(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL), -ESTALE);
	OK(kf_claim(domain->fd, MASK_AB, 60000, 0, &epoch));
	CHECK(epoch != domain->epoch);
	SAME(domain->status->epoch, epoch);
	SAME(domain->status->leased, 1);
}

CASE("a core is claimed by one domain, a lease held by one file")
{
	struct domain *domain = domain_new(MASK_AB);
	int other = kf_opened(), same = kf_opened();
	uint32_t id = 0, mine = domain->id, epoch;

	OK(kf_join(other, &id, 0));
	CHECK(id != domain->id);
	RESULT(kf_claim(other, 1u << CORE_B, 1000, 0, NULL), -EBUSY);
	RESULT(kf_claim(other, 1u << CORE_B, 1000, FLUX_KF_CLAIM_TAKEOVER, NULL), -EBUSY);
	OK(kf_join(same, &mine, 0));
	RESULT(kf_claim(same, MASK_AB, 1000, 0, NULL), -EBUSY);
	OK(kf_claim(same, MASK_AB, 60000, FLUX_KF_CLAIM_TAKEOVER, &epoch));
	CHECK(epoch != domain->epoch);
	RESULT(submit(domain, NULL, 0, NULL), -ESTALE);
	RESULT(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL), -ESTALE);
	SAME(domain->status->leased, 1);
}

CASE("a view cannot command, claim or create")
{
	struct domain *domain = domain_new(MASK_AB);
	int view = kf_opened(), fd;
	uint32_t id = domain->id;
	struct flux_kf_submit batch = {0};
	struct domain *seen;

	OK(kf_join(view, &id, FLUX_KF_JOIN_VIEW));
	seen = domain_on(view, id, false);
	SAME(seen->status->domain, id);
	RESULT_IN(kf_claim(view, MASK_AB, 1000, FLUX_KF_CLAIM_TAKEOVER, NULL), -EPERM, -EINVAL);
	RESULT_IN(kf_ioctl(view, FLUX_KF_SUBMIT, &batch), -ESTALE, -EPERM, -EINVAL);
	RESULT_IN(kf_ioctl(view, FLUX_KF_RELEASE, NULL), -ESTALE, -EPERM, -EINVAL);
	RESULT_IN(vm_create(seen, 0, 1, &fd), -EPERM, -EINVAL);
	SAME(domain->status->epoch, domain->epoch);
}
