#include "base/cpu_budget.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace tempo {
namespace {

int cpus_of_this_thread() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
}

TEST(CpuBudget, HoldsForTheThreadAndThoseItStarts) {
  std::thread([] {  // a thread of its own: the budget cannot be taken back
    const int all = cpus_of_this_thread();
    EXPECT_EQ(keep_to_cpus(all + 1), all) << "more than there are";
    EXPECT_EQ(cpus_of_this_thread(), all);
    EXPECT_EQ(keep_to_cpus(1), 1);
    EXPECT_EQ(cpus_of_this_thread(), 1);
    int inherited = 0;
    std::thread([&] { inherited = cpus_of_this_thread(); }).join();
    EXPECT_EQ(inherited, 1);
  })
      .join();
}

}  // namespace
}  // namespace tempo
