#include "integrity/policy.h"

#include <fmt/format.h>

#include <charconv>

#include "tempo/error.h"

namespace tempo::integrity {

PolicySetting parse_policy(std::string_view text) {
  constexpr std::string_view kSampled = "sampled:";
  if (text == "off") return {Policy::kOff, 0};
  if (text == "always") return {Policy::kAlways, 1};
  if (text.starts_with(kSampled)) {
    const std::string_view number = text.substr(kSampled.size());
    double probability = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), probability);
    if (error == std::errc() && end == number.data() + number.size() && probability > 0 && probability <= 1)
      return {Policy::kSampled, probability};
  }
  throw InputError(
      fmt::format("integrity: got \"{}\", expected off, always, or sampled:P with P above 0 and at most 1", text));
}

std::string to_string(const PolicySetting& setting) {
  switch (setting.policy) {
    case Policy::kOff:
      return "off";
    case Policy::kAlways:
      return "always";
    case Policy::kSampled:
      return fmt::format("sampled:{}", setting.probability);
  }
  return "off";
}

}  // namespace tempo::integrity
