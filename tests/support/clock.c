// A wall clock that can be set for one process: preloaded, it adds the seconds in the file that CLOCK_SHIFT names to CLOCK_REALTIME. The file is mapped, so that
// the clock jumps whenever the file is written. Everything else is the kernel's.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *shift;

__attribute__((constructor)) static void map_shift(void) {
    const char *path = getenv("CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *place = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (place == MAP_FAILED) abort();
    close(file);
    shift = place;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    // Other constructors may ask before ours.
    if (result == 0 && clock == CLOCK_REALTIME && shift) time->tv_sec += *shift;
    return (int)result;
}
