/// Says when results of workers are verified: the flag `--integrity`.
#pragma once

#include <string>
#include <string_view>

namespace tempo::integrity {

enum class Policy { kOff, kSampled, kAlways };

struct PolicySetting {
  Policy policy = Policy::kOff;
  double probability = 0;  ///< probability that a product is checked, in (0, 1]; for kSampled
};

/// Parses `off`, `always` or `sampled:P`. @throws InputError for other text.
PolicySetting parse_policy(std::string_view text);
std::string to_string(const PolicySetting& setting);

}  // namespace tempo::integrity
