/// The median of a few figures.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace tempo {

/// The upper one of the two in the middle if there are two; 0 of nothing.
inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace tempo
