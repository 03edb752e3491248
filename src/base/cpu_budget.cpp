#include "base/cpu_budget.h"

#include <algorithm>

namespace tempo {

CpuBudget::CpuBudget(int count) {
  if (sched_getaffinity(0, sizeof before_, &before_) != 0) return;  // machines of more than 1,024 CPUs among others
  if (count >= CPU_COUNT(&before_)) return;
  const int here = std::max(sched_getcpu(), 0);
  cpu_set_t kept;
  CPU_ZERO(&kept);
  for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&kept) < count; ++i)
    if (const int cpu = (here + i) % CPU_SETSIZE; CPU_ISSET(cpu, &before_)) CPU_SET(cpu, &kept);
  is_kept_ = sched_setaffinity(0, sizeof kept, &kept) == 0;
}

CpuBudget::~CpuBudget() {
  if (is_kept_) sched_setaffinity(0, sizeof before_, &before_);
}

}  // namespace tempo
