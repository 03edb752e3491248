#include "base/cpu_budget.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace tempo {
namespace cpu_budget_test {

int cpus_of_this_thread() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
}

TEST(CpuBudget, ABudgetLimitsTheThreadAndItsChildrenUntilDestroyed) {
  const int all = cpus_of_this_thread();
  {
    const CpuBudget more_than_there_are(all + 1);
    EXPECT_EQ(cpus_of_this_thread(), all);
  }
  {
    const CpuBudget one(1);
    EXPECT_EQ(cpus_of_this_thread(), 1);
    int inherited = 0;
    std::thread([&] { inherited = cpus_of_this_thread(); }).join();
    EXPECT_EQ(inherited, 1);
  }
  EXPECT_EQ(cpus_of_this_thread(), all) << "a run leaves its caller's thread as it was";
}

}  // namespace cpu_budget_test
}  // namespace tempo
