/// How a check fails: with its reason, and with what part of the verdict it decides.
#pragma once

#include <fmt/format.h>

#include "tempo/error.h"

namespace tempo::attest {

/// Parts of EAR's trustworthiness vector that are appraised here.
enum class Aspect { kHardware, kInstanceIdentity, kExecutables, kConfiguration };
using enum Aspect;
constexpr size_t kAspects = 4;

class Refused : public AttestationError {
 public:
  Refused(Aspect aspect, const std::string& reason) : AttestationError(reason), aspect_(aspect) {}
  [[nodiscard]] Aspect aspect() const noexcept { return aspect_; }

 private:
  Aspect aspect_;
};

/// @throws Refused with the formatted reason unless `is_good`.
template <typename... Values>
void demand(bool is_good, Aspect aspect, fmt::format_string<Values...> reason, Values&&... values) {
  if (!is_good) throw Refused(aspect, fmt::format(reason, std::forward<Values>(values)...));
}

}  // namespace tempo::attest
