// Two results of the same benchmark, side by side.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "benches.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"

namespace tempo::bench {
namespace {

using Json = nlohmann::json;
using Values = std::map<std::string, std::map<std::string, double>>;  // benchmark, number: its median

// What Google Benchmark writes of every run that is not a measurement.
bool is_measurement(const std::string& field) {
  static const std::vector<std::string> others = {
      "family_index", "per_family_instance_index", "repetitions", "repetition_index", "threads", "iterations",
      "cpu_time"};
  return std::find(others.begin(), others.end(), field) == others.end();
}

Values read(const std::string& file) {
  std::map<std::string, std::map<std::string, std::vector<double>>> all;
  constexpr size_t kMaxBytes = size_t{1} << 28;
  const std::string text = read_text_file(file, kMaxBytes);
  check_text(text, file);
  try {
    const Json results = Json::parse(text);
    for (const Json& run : results.at("benchmarks")) {
      if (run.value("run_type", "") != "iteration" || run.value("error_occurred", false)) continue;
      for (const auto& [field, value] : run.items())
        if (value.is_number() && is_measurement(field))
          all[run.at("name").get<std::string>()][field].push_back(value.get<double>());
    }
  } catch (const Json::exception&) {
    throw InputError(fmt::format("compare: {} is not a result, expected what --benchmark_out wrote", file));
  }
  Values medians;
  for (auto& [name, fields] : all)
    for (auto& [field, values] : fields) {
      std::sort(values.begin(), values.end());
      medians[name][field] = values[values.size() / 2];
    }
  return medians;
}

}  // namespace

int run_compare(int argc, char** argv) {
  if (argc != 3) throw InputError(fmt::format("compare: got {} files, expected two", argc - 1));
  const Values before = read(argv[1]), after = read(argv[2]);
  observe::print("| benchmark | what | {} | {} | ratio |\n|---|---|---|---|---|\n",
                 std::filesystem::path(argv[1]).filename().string(),
                 std::filesystem::path(argv[2]).filename().string());
  size_t pairs = 0;
  for (const auto& [name, fields] : before) {
    const auto found = after.find(name);
    if (found == after.end()) continue;
    for (const auto& [field, value] : fields) {
      const auto other = found->second.find(field);
      if (other == found->second.end()) continue;
      ++pairs;
      const std::string ratio = value != 0 ? fmt::format("{:.3f}", other->second / value) : "";
      observe::print("| {} | {} | {:.4g} | {:.4g} | {} |\n", name, field, value, other->second, ratio);
    }
  }
  if (pairs == 0) throw InputError("compare: the two files have no benchmark in common");
  return 0;
}

}  // namespace tempo::bench
