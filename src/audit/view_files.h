/// Recordings on disk: docs/formats/worker-view.md.
#pragma once

#include <filesystem>

#include "audit/victim.h"

namespace tempo::audit {

/// Writes `folder`/events.jsonl, and for every layer LAYER.view.safetensors and LAYER.truth.safetensors. The truth is
/// plain data of the victim: for scoring, and not for a worker. @throws RunError
void write_recording(const RecordedRun& run, const std::filesystem::path& folder);

}  // namespace tempo::audit
