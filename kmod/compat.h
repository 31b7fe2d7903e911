/* SPDX-License-Identifier: GPL-2.0 */
/* Everything that differs between the kernels that kFlux builds against: 6.1 and newer. */
#ifndef KF_COMPAT_H
#define KF_COMPAT_H

#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/version.h>
#include <asm/tsc.h> /* rdtsc_ordered(), which came from asm/msr.h through it before 6.16 */

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "kFlux needs Linux 6.1 or newer"
#endif
#ifndef CONFIG_X86_64
#error "kFlux is for x86-64"
#endif
#ifndef CONFIG_PREEMPT_NOTIFIERS
#error "kFlux needs a kernel with CONFIG_PREEMPT_NOTIFIERS, which comes with CONFIG_KVM"
#endif

/* hrtimer_setup() came in 6.13 and replaced hrtimer_init() in 6.15. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
static inline void kf_hrtimer_setup(struct hrtimer *timer,
				    enum hrtimer_restart (*function)(struct hrtimer *),
				    clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#else
#define kf_hrtimer_setup hrtimer_setup
#endif

/* vm_flags became constant, to be changed by functions, in 6.3. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void kf_vm_flags_mod(struct vm_area_struct *vma, unsigned long set,
				   unsigned long clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#else
#define kf_vm_flags_mod vm_flags_mod
#endif

/*
 * Whether current, which is being switched out, is on no run queue any more. Since 6.12
 * a sleeper may stay on it for a while ("delayed dequeue"); it sleeps all the same.
 */
static inline bool kf_current_sleeps(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return !current->on_rq;
#else
	return !task_is_runnable(current);
#endif
}

#endif
