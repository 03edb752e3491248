/// The embedded worker: the same untrusted executor, on a thread of the master's process. For development, tests and
/// measurements. It is given only blinded operands, but nothing isolates it from the master's memory.
#pragma once

#include <memory>
#include <string>

#include "offload/contract.h"

namespace tempo::offload {

/// @param device "cpu" or "cuda:N". @param threads threads of one product on the CPU.
std::shared_ptr<Worker> make_inprocess_worker(const std::string& device, int threads);

}  // namespace tempo::offload
