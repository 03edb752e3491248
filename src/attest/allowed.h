/// Small questions that every policy asks.
#pragma once

#include <algorithm>

#include "attest/policy.h"

namespace tempo::attest {

template <size_t kBytes>
[[nodiscard]] bool is_zero(const std::array<std::byte, kBytes>& value) {
  return value == std::array<std::byte, kBytes>{};
}

template <typename Value>
[[nodiscard]] bool is_listed(const Value& value, const std::vector<Value>& list) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

template <typename Value>
[[nodiscard]] bool is_allowed(const Value& value, const Allowed<Value>& allowed) {
  return allowed.any || (allowed.values.empty() ? is_zero(value) : is_listed(value, allowed.values));
}

}  // namespace tempo::attest
