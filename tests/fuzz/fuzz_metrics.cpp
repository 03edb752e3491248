// Any bytes are lines that are refused with an InputError, or taken; what was taken is JSON again, and bounded.
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "page/run_history.h"
#include "tempo/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  tempo::page::RunHistory history;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    try {
      history.add_line(line);
    } catch (const tempo::InputError&) {
    }
    if (line.size() % 7 == 3) history.went_back(static_cast<int64_t>(line.size()));
  }
  const auto json = nlohmann::json::parse(history.to_json(), nullptr, false);
  if (!json.is_object() || json["steps"]["step"].size() > tempo::page::BucketSeries::kMostBuckets) std::abort();
  return 0;
}
