/* What a machine takes from whoever computes on it: one thread for each processor reads the clock without a pause, and
   every jump of it is time in which the thread did not run, though it wanted to.

       stalls SECONDS

   Prints one line for each jump above 20 µs: number of the processor, when it began, how long it was, in seconds.
   Run it with nothing else running: then what is left is the machine's, or of whoever shares it. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define LEAST_S 20e-6
#define MOST_JUMPS 1000000

typedef struct {
    int processor;
    double begin_s, seconds;
    size_t count;
    double (*jumps)[2];
} Watch;

static double now_s(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void *watch(void *given) {
    Watch *self = given;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(self->processor, &only);
    if (pthread_setaffinity_np(pthread_self(), sizeof only, &only)) return NULL;
    while (now_s() < self->begin_s) {
    }
    for (double last = now_s(), at; last < self->begin_s + self->seconds; last = at) {
        at = now_s();
        if (at - last > LEAST_S && self->count < MOST_JUMPS) {
            self->jumps[self->count][0] = last - self->begin_s;
            self->jumps[self->count++][1] = at - last;
        }
    }
    return NULL;
}

int main(int count, char **words) {
    double seconds = count == 2 ? atof(words[1]) : 0;
    if (seconds <= 0) {
        fprintf(stderr, "usage: stalls SECONDS\n");
        return 2;
    }
    cpu_set_t mine;
    if (sched_getaffinity(0, sizeof mine, &mine)) {
        fprintf(stderr, "stalls: %s\n", strerror(errno));
        return 1;
    }
    setpriority(PRIO_PROCESS, 0, -20); /* so that what is asleep in the guest takes as little as can be; may fail */
    static Watch watches[CPU_SETSIZE];
    static pthread_t threads[CPU_SETSIZE];
    int num = 0;
    double begin_s = now_s() + 0.1;
    for (int processor = 0; processor < CPU_SETSIZE; processor++) {
        if (!CPU_ISSET(processor, &mine)) continue;
        watches[num] = (Watch){.processor = processor, .begin_s = begin_s, .seconds = seconds};
        watches[num].jumps = malloc(MOST_JUMPS * sizeof *watches[num].jumps);
        if (!watches[num].jumps || pthread_create(&threads[num], NULL, watch, &watches[num])) {
            fprintf(stderr, "stalls: no thread for processor %d\n", processor);
            return 1;
        }
        num++;
    }
    for (int at = 0; at < num; at++) pthread_join(threads[at], NULL);
    for (int at = 0; at < num; at++) {
        printf("%d 0 0\n", watches[at].processor); /* so that a processor without jumps is named too */
        for (size_t i = 0; i < watches[at].count; i++)
            printf("%d %.6f %.6f\n", watches[at].processor, watches[at].jumps[i][0], watches[at].jumps[i][1]);
    }
    return 0;
}
