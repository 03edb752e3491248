/// Which CPUs a run may use.
#pragma once

#include <sched.h>

namespace tempo {

/// Keeps the calling thread, and all threads it starts meanwhile, to `count` of the CPUs it may use: the one it runs
/// on, where the system found room for it, and those after it. When this dies the calling thread may use what it could
/// before. Does nothing where it may use no more than `count`, or where the system does not let it choose, which is no
/// error: the threads then move as before.
class CpuBudget {
 public:
  explicit CpuBudget(int count);
  ~CpuBudget();
  CpuBudget(const CpuBudget&) = delete;
  CpuBudget& operator=(const CpuBudget&) = delete;

 private:
  cpu_set_t before_;
  bool is_kept_ = false;
};

}  // namespace tempo
