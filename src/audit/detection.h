/// How often lies are found: trials on one layer's steps, for the table of docs/integrity.md.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "audit/lying_worker.h"
#include "tempo/options.h"

namespace tempo::audit {

struct DetectionOptions {
  int trials = 1000;         ///< of every lie, on every layer
  int64_t honest = 100'000;  ///< checks of honest results, in all
  uint64_t seed = 1;         ///< of operands and lies; keys and fingerprints are secret all the same
  std::function<void(const std::string&)> progress = [](const std::string&) {};
};

struct DetectionRow {
  std::string lie, layer, setting;
  int trials = 0, detected = 0;
};

struct HonestRow {
  std::string layer, setting;
  int64_t checks = 0, alarms = 0;
  double largest_ratio = 0;  ///< of a residual by what was tolerated
};

struct DetectionResults {
  std::vector<DetectionRow> lies;
  std::vector<HonestRow> honest;
};

/// Linear layer and convolution, float32 and bfloat16 wire, resident and returned weights, under integrity=always.
DetectionResults measure_detection(const DetectionOptions& options);
std::string to_markdown(const DetectionResults& results);

}  // namespace tempo::audit
