/* Lets one operation on files below a folder fail. Preloaded (LD_PRELOAD); does nothing until it is armed.
 *
 * An operation that fails does nothing and sets errno. Whoever calls libc is hit: Python, Arrow, DuckDB, SQLite.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static size_t root_length;
static long failing;
static int fault;
static atomic_long passed;

/* The nth operation fails with EIO; with ENOSPC the nth that needs room does, and all that follow. */
void faults_arm(const char *folder, long nth, int number)
{
    snprintf(root, sizeof root, "%s/", folder);
    root_length = strlen(root);
    failing = nth;
    fault = number;
    passed = 0;
}

/* How many operations were counted. */
long faults_passed(void)
{
    return passed;
}

static int path_fails(const char *path, int needs_room)
{
    if (!root_length || strncmp(path, root, root_length) || (fault == ENOSPC && !needs_room))
        return 0;
    long number = atomic_fetch_add(&passed, 1) + 1;
    if (number != failing && (fault != ENOSPC || number < failing))
        return 0;
    errno = fault;
    return 1;
}

static int file_fails(int file, int needs_room)
{
    char name[64], path[PATH_MAX];
    if (!root_length)
        return 0;
    int before = errno;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t length = readlink(name, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = 0;
    return path_fails(path, needs_room);
}

static int entry_fails(int folder, const char *name, int needs_room)
{
    return *name == '/' ? path_fails(name, needs_room) : folder == AT_FDCWD ? 0 : file_fails(folder, needs_room);
}

#define CREATES(flags) (((flags) & (O_CREAT | O_TRUNC)) != 0)
#define MODE(flags, last) \
    va_list rest; \
    va_start(rest, last); \
    mode_t mode = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest)

/* WRAP(result on failure, its type, name, (parameters), (arguments), whether it fails) */
#define WRAP(failed, type, name, parameters, arguments, fails) \
    type name parameters \
    { \
        static type(*real) parameters; \
        if (!real) \
            real = dlsym(RTLD_NEXT, #name); \
        return fails ? failed : real arguments; \
    }

#define WRAP_OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        static int (*real)(const char *, int, ...); \
        MODE(flags, flags); \
        if (!real) \
            real = dlsym(RTLD_NEXT, #name); \
        return path_fails(path, CREATES(flags)) ? -1 : real(path, flags, mode); \
    }
#define WRAP_OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) \
    { \
        static int (*real)(int, const char *, int, ...); \
        MODE(flags, flags); \
        if (!real) \
            real = dlsym(RTLD_NEXT, #name); \
        return entry_fails(folder, path, CREATES(flags)) ? -1 : real(folder, path, flags, mode); \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)
WRAP(NULL, FILE *, fopen, (const char *path, const char *mode), (path, mode), path_fails(path, *mode != 'r'))
WRAP(NULL, FILE *, fopen64, (const char *path, const char *mode), (path, mode), path_fails(path, *mode != 'r'))
WRAP(-1, ssize_t, write, (int file, const void *data, size_t size), (file, data, size), file_fails(file, 1))
WRAP(-1, ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at),
     file_fails(file, 1))
WRAP(-1, ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at),
     file_fails(file, 1))
WRAP(-1, ssize_t, writev, (int file, const struct iovec *data, int count), (file, data, count), file_fails(file, 1))
WRAP(-1, int, ftruncate, (int file, off_t size), (file, size), file_fails(file, 0))
WRAP(-1, int, ftruncate64, (int file, off64_t size), (file, size), file_fails(file, 0))
WRAP(-1, int, fallocate, (int file, int mode, off_t at, off_t size), (file, mode, at, size), file_fails(file, 1))
WRAP(-1, int, fsync, (int file), (file), file_fails(file, 0))
WRAP(-1, int, fdatasync, (int file), (file), file_fails(file, 0))
WRAP(-1, int, mkdir, (const char *path, mode_t mode), (path, mode), path_fails(path, 1))
WRAP(-1, int, rename, (const char *from, const char *to), (from, to), path_fails(to, 1))
WRAP(-1, int, link, (const char *from, const char *to), (from, to), path_fails(to, 1))
WRAP(-1, int, linkat, (int folder, const char *from, int other, const char *to, int flags),
     (folder, from, other, to, flags), entry_fails(other, to, 1))
WRAP(-1, int, unlink, (const char *path), (path), path_fails(path, 0))
WRAP(-1, int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags), entry_fails(folder, path, 0))
WRAP(-1, int, rmdir, (const char *path), (path), path_fails(path, 0))
