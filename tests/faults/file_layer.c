/* A file layer between a process and the system, loaded with LD_PRELOAD: it counts what a process does to the files
 * of one folder, and kills it, fails, shortens, interrupts or delays at the operation that a test chose.
 *
 * It sees writes of every library that calls the system through libc, whatever its language. It does nothing until
 * `faults_arm` or `faults_shift_clock` is called, which a test does in a fork.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OFF, COUNT, KILL_BEFORE, KILL_AFTER, FAIL_FROM, FAIL_ONCE, SHORT, INTERRUPT, SLOW };

static atomic_int action = OFF;
static atomic_long count;
static char folder[PATH_MAX];
static size_t folder_length;
static long target;
static int failure;
static __thread int interrupted;

void faults_arm(const char *root, int what, long at, int error_number) {
    strncpy(folder, root, sizeof folder - 1);
    folder_length = strlen(folder);
    target = at;
    failure = error_number;
    atomic_store(&count, 0);
    atomic_store(&action, what);
}

long faults_count(void) { return atomic_load(&count); }

static int inside(const char *path) { return path != NULL && strncmp(path, folder, folder_length) == 0; }

static int fd_inside(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* -1 with errno set: fail; 0: go on; 1: go on, and die after it (a write: after half of it). */
static int before(int is_write) {
    long number = atomic_fetch_add(&count, 1) + 1;
    switch (atomic_load(&action)) {
        case KILL_BEFORE:
            if (number == target) die();
            return 0;
        case KILL_AFTER:
            return number == target;
        case FAIL_FROM:
            if (number < target) return 0;
            errno = failure;
            return -1;
        case FAIL_ONCE:
            if (number != target) return 0;
            errno = failure;
            return -1;
        case INTERRUPT: /* every second write */
            if (!is_write || (interrupted = !interrupted) == 0) return 0;
            errno = EINTR;
            return -1;
        case SLOW:
            usleep((useconds_t)target);
            return 0;
        default:
            return 0;
    }
}

static int is_short(void) { return atomic_load(&action) == SHORT; }
static int armed(void) { return atomic_load(&action) != OFF; }

#define REAL(name) \
    static __typeof__(name) *real; \
    if (real == NULL) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define WRITE(name, parameters, call_whole, call_part) \
    ssize_t name parameters { \
        REAL(name); \
        if (!armed() || size == 0 || !fd_inside(fd)) return real call_whole; \
        int plan = before(1); \
        if (plan < 0) return -1; \
        size_t part = size / 2; \
        if (plan > 0) { \
            if (part > 0) (void)!real call_part; \
            die(); \
        } \
        if (is_short() && part > 0) return real call_part; \
        return real call_whole; \
    }

WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, part))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), (fd, data, part, at))
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), (fd, data, part, at))

ssize_t writev(int fd, const struct iovec *vectors, int n) {
    REAL(writev);
    if (!armed() || !fd_inside(fd)) return real(fd, vectors, n);
    int plan = before(1);
    if (plan < 0) return -1;
    ssize_t done = real(fd, vectors, is_short() && n > 1 ? n / 2 : n);
    if (plan > 0) die();
    return done;
}

#define CALL(name, parameters, is_inside, call) \
    int name parameters { \
        REAL(name); \
        if (!armed() || !(is_inside)) return real call; \
        int plan = before(0); \
        if (plan < 0) return -1; \
        int result = real call; \
        if (plan > 0) die(); \
        return result; \
    }

CALL(fsync, (int fd), fd_inside(fd), (fd))
CALL(fdatasync, (int fd), fd_inside(fd), (fd))
CALL(ftruncate, (int fd, off_t size), fd_inside(fd), (fd, size))
CALL(ftruncate64, (int fd, off64_t size), fd_inside(fd), (fd, size))
CALL(rename, (const char *from, const char *to), inside(to), (from, to))
CALL(renameat, (int a, const char *from, int b, const char *to), inside(to), (a, from, b, to))
CALL(renameat2, (int a, const char *from, int b, const char *to, unsigned flags), inside(to), (a, from, b, to, flags))
CALL(unlink, (const char *path), inside(path), (path))
CALL(unlinkat, (int at, const char *path, int flags), inside(path), (at, path, flags))
CALL(mkdir, (const char *path, mode_t mode), inside(path), (path, mode))
CALL(rmdir, (const char *path), inside(path), (path))

#define OPEN(name, parameters, call) \
    int name parameters { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        if (!armed() || !(flags & (O_CREAT | O_TRUNC)) || !inside(path)) return real call; \
        int plan = before(0); \
        if (plan < 0) return -1; \
        int fd = real call; \
        if (plan > 0) die(); \
        return fd; \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))

/* The wall clock, which somebody may set; the monotonic clock goes on. */
static time_t shift;

void faults_shift_clock(long seconds) { shift = seconds; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now != NULL) *now = precise.tv_sec;
    return precise.tv_sec;
}
