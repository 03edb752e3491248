/// What every program of Tempo does around its own work: threads that sleep while they wait, memory that is not dumped,
/// and errors that end in one line and an exit code.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "base/text.h"

namespace tempo::apps {

/// Parses the command line, which runs the chosen callback. @returns the exit code.
/// @param prepare runs first. Programs that hold secrets pass `protect_process_memory`; it is a parameter because the
/// worker links this and must not link the code of secrets.
int run_program(CLI::App& app, int argc, char** argv, const std::function<void()>& prepare = {});

/// A validator of CLI11: one decimal number in its range, and nothing else. CLI11's own `Range` takes "nan", " 5" and
/// "0x10". Every option that is a number has one.
class Number : public CLI::Validator {
 public:
  /// Whole numbers from `low` to `high`.
  static Number whole(int64_t low, int64_t high) {
    return Number(fmt::format("a whole number from {} to {}", low, high), [=](const std::string& text) {
      const auto value = parse_decimal(text);
      return value && *value >= low && *value <= high;
    });
  }
  /// Finite numbers from `low` to `high`.
  static Number real(double low, double high) {
    return Number(fmt::format("a number from {} to {}", low, high), [=](const std::string& text) {
      const auto value = parse_real(text);
      return value && *value >= low && *value <= high;
    });
  }

 private:
  template <typename IsGood>
  Number(const std::string& expected, IsGood is_good) {
    func_ = [expected, is_good](std::string& text) {
      return is_good(text) ? std::string() : fmt::format("got \"{}\", expected {}", text, expected);
    };
  }
};

/// Threads that sleep while they wait, and memory that is kept for the next step. To be called first in `main`: starts
/// the program anew, unless OMP_WAIT_POLICY (or GOMP_SPINCOUNT) and GLIBC_TUNABLES are set.
void set_up_runtime(char** argv);

}  // namespace tempo::apps
