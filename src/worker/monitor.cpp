#include "worker/monitor.h"

#include "tempo/error.h"

namespace tempo::worker {

Ending ended_by(const std::exception& error) {
  if (dynamic_cast<const ProtocolError*>(&error) == nullptr) return {.how = SessionEnd::kFailed, .detail = {}};
  return {.how = SessionEnd::kProtocolError, .detail = error.what()};
}

}  // namespace tempo::worker
