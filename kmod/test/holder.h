/* SPDX-License-Identifier: GPL-2.0 */
/* What is done once, before the first case and after the last. */
#ifndef KFLUX_TEST_HOLDER_H
#define KFLUX_TEST_HOLDER_H

/* 0, or an exit code; says what is missing and what to do. */
int kf_prepare(void);
void kf_finish(void);
int kf_load_module(const char *path);
/* 0 or a negative errno. */
int kf_unload_module(void);

#endif
