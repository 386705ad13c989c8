#include "threads.h"

struct openmp openmp;

void set_openmp(
    void (*run_parallel)(void (*)(void *), void *, unsigned, unsigned), int (*thread_number)(void),
    int (*thread_count)(void), void (*barrier)(void))
{
    openmp = (struct openmp){run_parallel, thread_number, thread_count, barrier};
}
