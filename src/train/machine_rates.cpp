#include "train/machine_rates.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/file.h"
#include "base/path.h"
#include "base/text.h"
#include "obfuscation/blind.h"
#include "tempo/error.h"

namespace tempo::train {
namespace {

namespace fs = std::filesystem;
using nn::TeeRates;
using Json = nlohmann::json;

constexpr size_t kMaxRatesBytes = 1 << 16;

/// One figure, the unit in which it is written, and what it may be. The ranges hold every CPU of the last ten years and
/// of the next ten.
struct Figure {
  const char* name;
  double& (*of)(TeeRates&);
  double unit, low, high;
};
constexpr double kGiga = 1e9, kNano = 1e-9;
constexpr std::array kFigures = {
    Figure{"gemm", [](TeeRates& r) -> double& { return r.flops_per_second; }, kGiga, 1, 1e4},
    Figure{"conv", [](TeeRates& r) -> double& { return r.conv_flops_per_second; }, kGiga, 1, 1e4},
    Figure{"bytes", [](TeeRates& r) -> double& { return r.bytes_per_second; }, kGiga, 0.5, 1e3},
    Figure{"permute", [](TeeRates& r) -> double& { return r.blinding.permute_seconds; }, kNano, 0.02, 50},
    Figure{"rotate", [](TeeRates& r) -> double& { return r.blinding.rotate_seconds; }, kNano, 0.02, 100},
    Figure{"row-round", [](TeeRates& r) -> double& { return r.blinding.row_round_seconds; }, kNano, 0.01, 50},
    Figure{"verify", [](TeeRates& r) -> double& { return r.verify_seconds; }, kNano, 0.01, 20},
    Figure{"verify-on-the-way", [](TeeRates& r) -> double& { return r.verify_on_the_way_seconds; }, kNano, 0.001, 20},
    Figure{"key", [](TeeRates& r) -> double& { return r.key_seconds; }, kNano, 100, 1e6},
    Figure{"key-entry", [](TeeRates& r) -> double& { return r.key_seconds_per_entry; }, kNano, 0.1, 500},
};

double figure_of(const Figure& figure, const TeeRates& rates) {
  return figure.of(const_cast<TeeRates&>(rates)) / figure.unit;
}

[[noreturn]] void refuse_rates(const std::string& got, const std::string& expected) {
  throw InputError(fmt::format("rates: got \"{}\", expected {}", got, expected));
}

const Figure& figure_named(const std::string& name) {
  std::string names;
  for (const Figure& figure : kFigures) {
    if (name == figure.name) return figure;
    names += (names.empty() ? "" : ", ") + std::string(figure.name);
  }
  refuse_rates(name, fmt::format("measured, built-in, or NAME=VALUE of each of {}", names));
}

void set_figure(TeeRates& rates, const Figure& figure, const std::string& text) {
  const auto value = parse_real(text);
  if (!value || *value < figure.low || *value > figure.high)
    refuse_rates(fmt::format("{}={}", figure.name, text),
                 fmt::format("a number from {} to {}", figure.low, figure.high));
  figure.of(rates) = *value * figure.unit;
}

/// Whether nobody but this user can have written it.
bool is_own(const fs::path& file) {
  struct stat info = {};
  return ::lstat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == ::geteuid() &&
         (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

Json to_json(const RatesKey& key) {
  return {{"cpu", key.cpu}, {"simd", key.simd}, {"version", key.version}, {"torch", key.torch}, {"cpus", key.cpus}};
}

/// What /proc/cpuinfo calls the first CPU.
std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  std::string name;
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    // Some virtual machines give every model of a maker the same name: family, model and stepping tell them apart.
    for (const char* field : {"cpu family", "model", "model name", "stepping", "CPU implementer", "CPU part"})
      if (colon != std::string::npos && line.substr(0, line.find_last_not_of("\t ", colon - 1) + 1) == field)
        name += (name.empty() ? "" : "/") + line.substr(colon + 2);
    if (line.empty()) break;
  }
  return find_non_text(name) ? "" : name;
}

}  // namespace

std::string to_figures(const TeeRates& rates) {
  std::string text;
  for (const Figure& figure : kFigures)
    text += fmt::format("{}{}={:.4g}", text.empty() ? "" : ",", figure.name, figure_of(figure, rates));
  return text;
}

TeeRates parse_figures(const std::string& text) {
  TeeRates rates;
  std::map<std::string, std::string> given;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = text.substr(begin, end - begin);
    const size_t equals = std::min(item.find('='), item.size());
    const Figure& figure = figure_named(item.substr(0, equals));
    const std::string value = item.substr(std::min(equals + 1, item.size()));
    if (!given.emplace(figure.name, value).second) refuse_rates(item, fmt::format("{} once", figure.name));
    set_figure(rates, figure, value);
    begin = end + 1;
  }
  for (const Figure& figure : kFigures)
    if (!given.contains(figure.name)) refuse_rates(text, fmt::format("a figure for {}, too", figure.name));
  return rates;
}

TeeRates tee_rates(const RunConfig& config) {
  if (config.rates == kMeasuredRates || config.rates == kBuiltInRates) return {};
  return parse_figures(config.rates);
}

RatesKey RatesKey::of_this_machine() {
  return {.cpu = cpu_name(),
          .simd = obfuscation::supported_isas().front().name,
          .version = TEMPO_VERSION,
          .torch = fmt::format("{}.{}.{}", TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR, TORCH_VERSION_PATCH),
          .cpus = static_cast<int>(std::thread::hardware_concurrency())};
}

std::optional<TeeRates> read_rates(const fs::path& file, const RatesKey& key) try {
  if (!is_own(file)) return std::nullopt;
  const Json json = Json::parse(read_text_file(file, kMaxRatesBytes), nullptr, false);
  if (!json.is_object() || json.value("machine", Json()) != to_json(key)) return std::nullopt;
  return parse_figures(json.at("figures").get<std::string>());
} catch (const Error&) {
  return std::nullopt;
} catch (const Json::exception&) {
  return std::nullopt;
}

bool keep_rates(const fs::path& file, const RatesKey& key, const TeeRates& rates) try {
  make_folders(file.parent_path());
  std::error_code ignored;
  if (!is_own(file)) fs::remove(file, ignored);  // its owner and mode are not to be handed on
  AtomicFile out(file, 0600);
  out.write(Json{{"machine", to_json(key)}, {"figures", to_figures(rates)}}.dump(2) + "\n");
  out.commit();
  return true;
} catch (const Error&) {
  return false;
}

fs::path default_rates_path() {
  const auto absolute_from = [](const char* variable) {
    const char* value = std::getenv(variable);
    const fs::path path = value == nullptr ? "" : value;
    return path.is_absolute() ? path : fs::path();
  };
  fs::path cache = absolute_from("XDG_CACHE_HOME");
  if (const fs::path home = absolute_from("HOME"); cache.empty() && !home.empty()) cache = home / ".cache";
  return cache.empty() ? fs::path() : cache / "tempo" / "rates-v1.json";
}

void settle_rates(RunConfig& config, const fs::path& file) {
  if (config.rates != kMeasuredRates) return;
  const RatesKey key = RatesKey::of_this_machine();
  std::optional<TeeRates> rates = file.empty() ? std::nullopt : read_rates(file, key);
  if (!rates) {
    rates = measure_rates();
    for (const Figure& figure : kFigures)
      figure.of(*rates) = std::clamp(figure.of(*rates), figure.low * figure.unit, figure.high * figure.unit);
    if (!file.empty()) keep_rates(file, key, *rates);
  }
  config.rates = to_figures(*rates);
}

}  // namespace tempo::train
