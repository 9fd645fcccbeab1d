/* Sleeps by the kernel's clock under libfaketime, for programs whose wall clock alone is to be off.

   libfaketime 0.9.10 is told not to touch the monotonic clock (FAKETIME_DONT_FAKE_MONOTONIC), and still takes the
   absolute time of a sleep by that clock for one of the clock that it shifts. Python's time.sleep is such a sleep: it
   fails with EINVAL now and then. Preloaded before libfaketime, this hands each sleep to the kernel as it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *remaining) {
  return syscall(SYS_clock_nanosleep, clock, flags, request, remaining) == -1 ? errno : 0;
}
