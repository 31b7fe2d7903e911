/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The headers of abi/ are shared with user space and ask for <stdint.h>, which a kernel
 * build does not have: its types are the kernel's own.
 */
#ifndef KF_STDINT_H
#define KF_STDINT_H

#include <linux/types.h>

#endif
