/*
 * A disk that fails when it is told to: while there is a file at MQTTZOO_TEST_FAULT, what would change
 * the files of a store fails with the error number in it. Loaded with LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *control;

__attribute__((constructor)) static void begin(void) { control = getenv("MQTTZOO_TEST_FAULT"); }

/* The error that there is now; 0 for none. */
static int fault(const char *path) {
    if (control == NULL || strstr(path, "/store.sqlite") == NULL) {
        return 0;
    }
    int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) {
        return 0;
    }
    char text[16] = {0};
    ssize_t len = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    return len > 0 ? atoi(text) : 0;
}

static int fault_of(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (len <= 0) {
        return 0;
    }
    path[len] = 0;
    return fault(path);
}

#define FAIL_WITH(error)      \
    do {                      \
        int number = (error); \
        if (number != 0) {    \
            errno = number;   \
            return -1;        \
        }                     \
    } while (0)

/* A disk that became read-only opens nothing for writing any more. */
static int open_at(int directory, const char *path, int flags, mode_t mode) {
    if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0) {
        FAIL_WITH(fault(path));
    }
    return (int)syscall(SYS_openat, directory, path, flags, mode);
}

#define MODE_BEHIND(flags, mode)           \
    mode_t mode = 0;                       \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest;                      \
        va_start(rest, flags);             \
        mode = va_arg(rest, mode_t);       \
        va_end(rest);                      \
    }

int open(const char *path, int flags, ...) {
    MODE_BEHIND(flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_BEHIND(flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t len) {
    FAIL_WITH(fault_of(fd));
    return syscall(SYS_write, fd, bytes, len);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) {
    FAIL_WITH(fault_of(fd));
    return syscall(SYS_pwrite64, fd, bytes, len, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset) {
    return pwrite(fd, bytes, len, offset);
}

int ftruncate(int fd, off_t len) {
    FAIL_WITH(fault_of(fd));
    return (int)syscall(SYS_ftruncate, fd, len);
}

int ftruncate64(int fd, off64_t len) { return ftruncate(fd, len); }

int fsync(int fd) {
    FAIL_WITH(fault_of(fd));
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    FAIL_WITH(fault_of(fd));
    return (int)syscall(SYS_fdatasync, fd);
}
