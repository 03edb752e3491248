/// The rates of this machine's TEE by which placement decides: measured once, kept in a file, and noted with the run.
///
/// The file lies outside what a TEE protects, and whoever can write it decides which products leave, though no further
/// than `offload=all` and `workers=local` do: figures only choose between blinding and computing, the first and the
/// last layer never leave, and whatever leaves is blinded and verified as always. Every figure must lie in its range.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "nn/placement.h"
#include "tempo/run.h"

namespace tempo::train {

/// What `RunConfig::rates` may be besides figures.
inline constexpr const char* kMeasuredRates = "measured";
inline constexpr const char* kBuiltInRates = "built-in";

/// "gemm=9.7e+10,conv=...": all of them, in four digits. In GFLOP/s, GB/s and nanoseconds.
std::string to_figures(const nn::TeeRates& rates);
/// @throws InputError unless the text has each figure once, each in its range, and nothing else.
nn::TeeRates parse_figures(const std::string& text);

/// The rates of a configuration; the built-in ones as long as those of this machine are not settled. Measures nothing.
/// @throws InputError as parse_figures
nn::TeeRates tee_rates(const RunConfig& config);

/// Measures, on one thread in less than a second of CPU time, what the placement of a layer depends on: products,
/// convolutions, memcpy, blinding, verification, keys. The rest stays as it is built in.
nn::TeeRates measure_rates();

/// What a file of rates is for: figures of another CPU, build or number of CPUs are measured anew.
struct RatesKey {
  std::string cpu;   ///< "AMD EPYC 9B45 64-Core Processor"
  std::string simd;  ///< the instruction set of blinding
  std::string version, torch;
  int cpus = 0;

  static RatesKey of_this_machine();
  friend bool operator==(const RatesKey&, const RatesKey&) = default;
};

/// Nothing if the file is missing, unreadable, another user's, writable by others, of another machine, or if a figure
/// is missing or out of its range.
std::optional<nn::TeeRates> read_rates(const std::filesystem::path& file, const RatesKey& key);
/// Replaces the file as a whole, with mode 0600. @returns false if it cannot: that is no error.
bool keep_rates(const std::filesystem::path& file, const RatesKey& key, const nn::TeeRates& rates);

/// $XDG_CACHE_HOME/tempo/rates-v1.json, or that in ~/.cache; empty if neither variable is an absolute path.
std::filesystem::path default_rates_path();

/// Puts figures in place of "measured": those of the file, or else measured now and kept there. Does nothing to other
/// values. @param file empty: none is read or written.
void settle_rates(RunConfig& config, const std::filesystem::path& file);

}  // namespace tempo::train
