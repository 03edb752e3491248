/// Workers by URI.
#pragma once

#include <memory>
#include <string>

#include "tempo/worker.h"

namespace tempo::offload {

/// `inprocess:` or `inprocess:DEVICE`. @param threads for workers on this machine.
/// @throws InputError for a scheme that is not known.
std::shared_ptr<Worker> make_worker(const std::string& uri, int threads);

}  // namespace tempo::offload
