/// Labelled images in memory, as every loader gives them and `Batches` takes them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tempo::train {

/// Images of one size with one label each.
struct Dataset {
  std::string name;  ///< for messages, e.g. "cifar10/train"
  int64_t channels = 0, height = 0, width = 0;
  std::vector<std::string> class_names;  ///< label i means class_names[i]
  std::vector<uint8_t> images;           ///< [size, channels, height, width], values 0..255
  std::vector<uint8_t> labels;           ///< [size], below class_names.size()
  /// Per channel, of values scaled to 0..1: a model sees (value / 255 - mean) / stddev.
  std::array<float, 3> mean{}, stddev{};

  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(labels.size()); }
  /// Values of one image.
  [[nodiscard]] int64_t image_values() const { return channels * height * width; }
};

struct DataSplits {
  Dataset train, test;
};

}  // namespace tempo::train
