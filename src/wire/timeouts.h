/// Two timeouts with names, for calls that take milliseconds.
#pragma once

#include <chrono>

namespace tempo::wire {

inline constexpr std::chrono::milliseconds kForever{-1}, kAtOnce{0};

}  // namespace tempo::wire
