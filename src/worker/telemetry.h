/// The monitor that counts for Prometheus and writes log lines: docs/observing.md.
#pragma once

#include <memory>

#include "observe/log.h"
#include "observe/metrics.h"
#include "worker/monitor.h"

namespace tempo::worker {

/// @param metrics get the worker's metrics at once; they and @param log outlive every call of
/// the monitor and of its sessions' monitors.
std::shared_ptr<Monitor> make_telemetry(observe::Metrics& metrics, observe::Log& log);

}  // namespace tempo::worker
