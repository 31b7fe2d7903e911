// SPDX-License-Identifier: Apache-2.0
#ifndef HYPERFLUX_NATIVE_MAPPING_H
#define HYPERFLUX_NATIVE_MAPPING_H

#include <stddef.h>

#include <string>

// Whether `bytes` from `offset` of this file can be mapped without ever raising SIGBUS: the file is that
// long, and, if `sealed`, nobody can make it shorter or longer. 0, or an errno value with the reason in *why.
int CheckMappable(int fd, size_t offset, size_t bytes, bool sealed, std::string* why);

#endif
