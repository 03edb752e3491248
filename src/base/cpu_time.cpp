#include "base/cpu_time.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <time.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "tempo/error.h"

namespace tempo {

void name_this_thread(const char* name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

CpuSeconds process_cpu_seconds() {
  CpuSeconds seconds;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name != kWorkerThreadName) continue;
    uint64_t nanoseconds = 0;
    if (!(std::ifstream(task.path() / "schedstat") >> nanoseconds)) {
      std::error_code error;
      if (!std::filesystem::exists(task.path(), error)) continue;  // it ended in the meantime
      throw RunError("cpu time: /proc/self/task/*/schedstat cannot be read; the TEE's CPU time would be wrong");
    }
    seconds.worker += static_cast<double>(nanoseconds) * 1e-9;
  }
  timespec total{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &total);
  seconds.tee = static_cast<double>(total.tv_sec) + static_cast<double>(total.tv_nsec) * 1e-9 - seconds.worker;
  return seconds;
}

}  // namespace tempo
