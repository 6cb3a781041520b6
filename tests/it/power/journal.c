/*
 * Writes down what a process does to the files of its store, in the order in which it does it, so that
 * a test can say what a disk may hold when the power is cut at any moment. Loaded with LD_PRELOAD.
 *
 * A record is a header, a name, and bytes. It is appended before the call that it is about returns, and
 * one at a time. Files are meant by their inodes; `-shm` is an index in memory and no disk has it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, SYNC_DIRECTORY };

struct header {
    uint32_t kind;
    uint32_t name_len;
    uint64_t file;
    uint64_t offset;
    uint64_t bytes_len;
};

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MQTTZOO_TEST_JOURNAL");
    if (path != NULL) {
        int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC;
        journal = (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
    }
}

static void note(enum kind kind, const char *name, uint64_t file, uint64_t offset,
                 const void *bytes, uint64_t bytes_len) {
    struct header header = {kind, name == NULL ? 0 : (uint32_t)strlen(name), file, offset, bytes_len};
    struct iovec parts[] = {
        {&header, sizeof header}, {(void *)name, header.name_len}, {(void *)bytes, bytes_len}};
    uint64_t whole = sizeof header + header.name_len + bytes_len;
    if ((uint64_t)syscall(SYS_writev, journal, parts, 3) != whole) {
        abort();
    }
}

static int is_ours(const char *path) {
    size_t len = strlen(path);
    int is_index = len > 4 && strcmp(path + len - 4, "-shm") == 0;
    return journal >= 0 && strstr(path, "/store.sqlite") != NULL && !is_index;
}

/* The path of an open file; 0 when it has none, or is not one of ours. */
static int path_of(int fd, char *path, struct stat *status) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = journal < 0 ? -1 : syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (len <= 0 || path[0] != '/') {
        return 0;
    }
    path[len] = 0;
    return fstat(fd, status) == 0 && (S_ISDIR(status->st_mode) || is_ours(path));
}

static int open_at(int directory, const char *path, int flags, mode_t mode) {
    if (!is_ours(path)) {
        return (int)syscall(SYS_openat, directory, path, flags, mode);
    }
    pthread_mutex_lock(&one_at_a_time);
    int is_new = syscall(SYS_faccessat, directory, path, F_OK) != 0;
    int fd = (int)syscall(SYS_openat, directory, path, flags, mode);
    int error = errno;
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0) {
        if (is_new) {
            note(CREATE, path, status.st_ino, 0, NULL, 0);
        } else if (flags & O_TRUNC) {
            note(TRUNCATE, NULL, status.st_ino, 0, NULL, 0);
        }
    }
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return fd;
}

#define MODE_BEHIND(flags, mode)            \
    mode_t mode = 0;                        \
    if ((flags) & (O_CREAT | O_TMPFILE)) {  \
        va_list rest;                       \
        va_start(rest, flags);              \
        mode = va_arg(rest, mode_t);        \
        va_end(rest);                       \
    }

int open(const char *path, int flags, ...) {
    MODE_BEHIND(flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_BEHIND(flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...) {
    MODE_BEHIND(flags, mode)
    return open_at(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...) {
    MODE_BEHIND(flags, mode)
    return open_at(directory, path, flags, mode);
}

static ssize_t write_at(int fd, const void *bytes, size_t len, off_t offset, int has_offset) {
    char path[PATH_MAX];
    struct stat status;
    int is_noted = path_of(fd, path, &status) && S_ISREG(status.st_mode);
    if (is_noted) {
        pthread_mutex_lock(&one_at_a_time);
        offset = has_offset ? offset : lseek(fd, 0, SEEK_CUR);
    }
    ssize_t written = has_offset ? syscall(SYS_pwrite64, fd, bytes, len, offset)
                                 : syscall(SYS_write, fd, bytes, len);
    if (is_noted) {
        int error = errno;
        if (written > 0) {
            note(WRITE, NULL, status.st_ino, (uint64_t)offset, bytes, (uint64_t)written);
        }
        pthread_mutex_unlock(&one_at_a_time);
        errno = error;
    }
    return written;
}

ssize_t write(int fd, const void *bytes, size_t len) { return write_at(fd, bytes, len, 0, 0); }

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) {
    return write_at(fd, bytes, len, offset, 1);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset) {
    return write_at(fd, bytes, len, offset, 1);
}

int ftruncate(int fd, off_t len) {
    char path[PATH_MAX];
    struct stat status;
    if (!path_of(fd, path, &status)) {
        return (int)syscall(SYS_ftruncate, fd, len);
    }
    pthread_mutex_lock(&one_at_a_time);
    int outcome = (int)syscall(SYS_ftruncate, fd, len);
    int error = errno;
    if (outcome == 0) {
        note(TRUNCATE, NULL, status.st_ino, (uint64_t)len, NULL, 0);
    }
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return outcome;
}

int ftruncate64(int fd, off64_t len) { return ftruncate(fd, len); }

static int sync_by(long call, int fd) {
    char path[PATH_MAX];
    struct stat status;
    if (!path_of(fd, path, &status)) {
        return (int)syscall(call, fd);
    }
    pthread_mutex_lock(&one_at_a_time);
    int outcome = (int)syscall(call, fd);
    int error = errno;
    if (outcome == 0 && S_ISDIR(status.st_mode)) {
        note(SYNC_DIRECTORY, path, 0, 0, NULL, 0);
    } else if (outcome == 0) {
        note(SYNC, NULL, status.st_ino, 0, NULL, 0);
    }
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return outcome;
}

int fsync(int fd) { return sync_by(SYS_fsync, fd); }

int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }

int rename(const char *from, const char *to) {
    if (!is_ours(from) && !is_ours(to)) {
        return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    }
    pthread_mutex_lock(&one_at_a_time);
    int outcome = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    int error = errno;
    if (outcome == 0) {
        note(RENAME, from, 0, 0, to, strlen(to));
    }
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return outcome;
}

int unlink(const char *path) {
    if (!is_ours(path)) {
        return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    }
    pthread_mutex_lock(&one_at_a_time);
    int outcome = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    int error = errno;
    if (outcome == 0) {
        note(UNLINK, path, 0, 0, NULL, 0);
    }
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return outcome;
}
