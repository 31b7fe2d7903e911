/* Error numbers of FluxOS's C faces: those of Linux on x86-64, as far as a function here returns them. */
#ifndef FLUXOS_ERRNO_H
#define FLUXOS_ERRNO_H

#ifdef __cplusplus
extern "C" {
#endif

#define EPERM 1
#define ESRCH 3
#define EINTR 4
#define EAGAIN 11
#define ENOMEM 12
#define EBUSY 16
#define EINVAL 22
#define EPIPE 32
#define EDEADLK 35
#define EOVERFLOW 75
#define ENOTSUP 95
#define ETIMEDOUT 110
#define ECANCELED 125

/* Of the calling uThread. */
int *flux_errno(void);
#define errno (*flux_errno())

#ifdef __cplusplus
}
#endif

#endif
