/// When results of workers are verified: `--integrity`.
#pragma once

#include <string>
#include <string_view>

namespace tempo::integrity {

enum class Policy { kOff, kSampled, kAlways };

struct PolicySetting {
  Policy policy = Policy::kOff;
  double probability = 0;  ///< for kSampled, in (0, 1]
};

/// Reads `off`, `always` or `sampled:P`. @throws InputError
PolicySetting parse_policy(std::string_view text);
std::string to_string(const PolicySetting& setting);

}  // namespace tempo::integrity
