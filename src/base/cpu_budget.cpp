#include "base/cpu_budget.h"

#include <sched.h>

#include <algorithm>

namespace tempo {

int keep_to_cpus(int count) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;  // machines of more than 1,024 CPUs among others
  const int all = CPU_COUNT(&allowed), here = std::max(sched_getcpu(), 0);
  if (count >= all) return all;
  cpu_set_t kept;
  CPU_ZERO(&kept);
  for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&kept) < count; ++i)
    if (const int cpu = (here + i) % CPU_SETSIZE; CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &kept);
  return sched_setaffinity(0, sizeof kept, &kept) == 0 ? count : 0;
}

}  // namespace tempo
