/* A small libnvidia-ml.so.1: as many GPUs as WYOLO_NVML_GPUS says, which do what the file WYOLO_NVML_STATE says.
   The file holds words: "lost1" GPU 1 fell off the bus, "gone" the driver was unloaded, "hang" it does not answer,
   "bare1" GPU 1 tells no more than its name and memory, "forbidden1" GPU 1 is not for this user.
   Built by tests/nvml/library.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, UNSUPPORTED = 3, FORBIDDEN = 4, SMALL = 7, NO_DRIVER = 9, LOST = 15 };

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } load_t;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process_t;

static int started;

static int says(const char *word, long gpu) {
    char wanted[64], text[1024] = "";
    const char *path = getenv("WYOLO_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return 0;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    snprintf(wanted, sizeof wanted, gpu < 0 ? "%s" : "%s%ld", word, gpu);
    return strstr(text, wanted) != NULL;
}

static int gpus(void) {
    const char *count = getenv("WYOLO_NVML_GPUS");
    return count ? atoi(count) : 0;
}

static int state(void *device) {
    long gpu = (long)device - 1;
    while (says("hang", -1)) usleep(10000);
    if (!started) return UNINITIALIZED;
    if (says("gone", -1)) return NO_DRIVER;
    if (gpu < 0 || gpu >= gpus()) return INVALID;
    if (says("forbidden", gpu)) return FORBIDDEN;
    return says("lost", gpu) ? LOST : OK;
}

static int extra(void *device) {
    int now = state(device);
    return now == OK && says("bare", (long)device - 1) ? UNSUPPORTED : now;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (says("gone", -1)) return NO_DRIVER;
    started = 1;
    return OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { started = 0; return OK; }
const char *nvmlErrorString(int error) {
    return error == LOST ? "GPU is lost" : error == NO_DRIVER ? "Driver Not Loaded" : "an error";
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    int now = state((void *)1L);
    if (now == UNINITIALIZED || now == NO_DRIVER) return now;
    *count = (unsigned)gpus();
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    int now = state((void *)((long)index + 1));
    if (now != OK) return now;
    *device = (void *)((long)index + 1);
    return OK;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    snprintf(text, size, "GPU-00000000-0000-0000-0000-%012ld", (long)device - 1);
    return state(device);
}
int nvmlDeviceGetName(void *device, char *text, unsigned size) {
    snprintf(text, size, "Test GPU %ld", (long)device - 1);
    return state(device);
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    memory->total = 16ULL << 30;
    memory->used = (unsigned long long)(long)device << 27;
    memory->free = memory->total - memory->used;
    return state(device);
}
int nvmlDeviceGetUtilizationRates(void *device, load_t *load) {
    load->gpu = 10U * (unsigned)(long)device;
    load->memory = 5;
    return extra(device);
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) {
    (void)sensor;
    *celsius = 40U + (unsigned)(long)device;
    return extra(device);
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { *milliwatts = 120500; return extra(device); }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) { *milliwatts = 350000; return extra(device); }
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *processes) {
    int now = extra(device);
    if (now != OK) return now;
    if ((long)device != 1) { *count = 0; return OK; }
    if (!processes || *count < 1) { *count = 1; return SMALL; }
    memset(processes, 0, sizeof *processes);
    processes->pid = (unsigned)getpid();
    processes->used = 512ULL << 20;
    *count = 1;
    return OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process_t *processes) {
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, processes);
}
