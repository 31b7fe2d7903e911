/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KF_VERSION_H
#define KF_VERSION_H

/* The product's version, as in the repository's package.json. */
#define KF_VERSION "0.1.0"

#endif
