/// The vocabulary of both sides (tempo/worker.h), by its short names.
#pragma once

#include "tempo/worker.h"

namespace tempo::offload {

using namespace contract;  // NOLINT: this folder speaks of little else

}  // namespace tempo::offload
