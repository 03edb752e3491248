#include "page/run_history.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "tempo/error.h"

namespace tempo::page {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 18> kStepFields = {"loss",
                                                          "learning_rate",
                                                          "gradient_norm",
                                                          "seconds",
                                                          "tee_cpu_seconds",
                                                          "samples_per_second",
                                                          "key_seconds",
                                                          "blind_seconds",
                                                          "wait_seconds",
                                                          "unblind_seconds",
                                                          "verify_seconds",
                                                          "bytes_to_workers",
                                                          "bytes_from_workers",
                                                          "integrity_checks",
                                                          "integrity_failures",
                                                          "reissued",
                                                          "workers",
                                                          "resident_bytes"};
constexpr std::array<std::string_view, 4> kTestFields = {"test_accuracy", "test_loss", "integrity_checks",
                                                         "integrity_failures"};
constexpr int64_t kMaxStep = int64_t{1} << 53;  // what a script's numbers hold
constexpr size_t kMaxEventFields = 8, kMaxEventTextBytes = 256, kShownBytes = 40;

[[noreturn]] void refuse(const std::string& got, const std::string& expected) {
  throw InputError(fmt::format("got {}, expected {}", got, expected));
}

std::string cut_text(std::string_view text, size_t most) {
  if (text.size() <= most) return std::string(text);
  size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // within a character
  return std::string(text.substr(0, end)) + "...";
}

int64_t whole_number(const Json& line, const char* name) {
  const auto found = line.find(name);
  if (found == line.end() || !found->is_number_integer() || *found < 0 || *found > kMaxStep)
    refuse(found == line.end() ? fmt::format("no \"{}\"", name)
                               : fmt::format("\"{}\": {}", name, cut_text(found->dump(), kShownBytes)),
           fmt::format("a \"{}\" from 0 to 2^53", name));
  return found->get<int64_t>();
}

template <size_t kCount>
std::array<double, kCount> numbers_of(const Json& line, const std::array<std::string_view, kCount>& names) {
  std::array<double, kCount> values;
  for (size_t i = 0; i < kCount; ++i) {
    const auto found = line.find(std::string(names[i]));
    values[i] = std::numeric_limits<double>::quiet_NaN();
    if (found == line.end() || found->is_null()) continue;
    if (!found->is_number())
      refuse(fmt::format("\"{}\": {}", names[i], cut_text(found->dump(), kShownBytes)), "a number");
    values[i] = found->get<double>();
  }
  return values;
}

Json parse_line(std::string_view text) {
  if (text.size() > kMaxMetricsLineBytes)
    refuse(fmt::format("{} bytes", text.size()), fmt::format("at most {} a line", kMaxMetricsLineBytes));
  Json line = find_non_text(text) ? Json(Json::value_t::discarded) : Json::parse(text, nullptr, false);
  if (!line.is_object())
    refuse(text.empty() ? "an empty line"
                        : fmt::format("\"{}\"", cut_text(find_non_text(text) ? "bytes" : text, kShownBytes)),
           "a JSON object of a step, an evaluation or an event");
  return line;
}

}  // namespace

struct RunHistory::Line {
  const Json& json;
  int64_t step;
};

RunHistory::RunHistory() : steps_(kStepFields), tests_(kTestFields) {}

void RunHistory::add_line(std::string_view text) {
  const Json line = parse_line(text);
  const int64_t step = whole_number(line, "step");
  if (line.contains("event")) return add_event({line, step});
  const bool is_test = line.contains("test_accuracy");
  if (!is_test && !line.contains("loss")) refuse("neither", "\"loss\", \"test_accuracy\" or \"event\"");
  const int64_t last = is_test ? tests_.last_step() : steps_.last_step();
  const bool is_first = (is_test ? tests_ : steps_).size() == 0;
  if (!is_first && step <= last) refuse(fmt::format("step {} after step {}", step, last), "steps that rise");
  const int64_t epoch = line.contains("epoch") ? whole_number(line, "epoch") : epoch_;
  if (is_test)
    tests_.add(step, numbers_of(line, kTestFields));
  else
    steps_.add(step, numbers_of(line, kStepFields));
  epoch_ = epoch;
}

void RunHistory::add_event(const Line& line) {
  Json kept{{"step", line.step}};
  for (const auto& [name, value] : line.json.items()) {
    if (kept.size() >= kMaxEventFields) break;
    if (name == "step" || name.size() > kMaxEventTextBytes) continue;
    if (value.is_string())
      kept[name] = cut_text(value.get_ref<const std::string&>(), kMaxEventTextBytes);
    else if (value.is_number() || value.is_boolean())
      kept[name] = value;
  }
  if (!kept.contains("event") || !kept["event"].is_string())
    refuse(fmt::format("\"event\": {}", cut_text(line.json["event"].dump(), kShownBytes)), "the event's name");
  is_checkpoint_.push_back(kept["event"] == "checkpoint_saved");
  events_.push_back(kept.dump());
  if (events_.size() < 2 * kMostEvents) return;
  // What happened to workers matters longer than that another checkpoint was written.
  std::vector<std::string> left;
  std::vector<bool> left_is_checkpoint;
  size_t to_drop = kMostEvents, checkpoints = 0;
  for (const bool is_one : is_checkpoint_) checkpoints += is_one ? 1 : 0;
  size_t of_checkpoints = std::min(to_drop, checkpoints), of_others = to_drop - of_checkpoints;
  for (size_t i = 0; i < events_.size(); ++i) {
    size_t& drop = is_checkpoint_[i] ? of_checkpoints : of_others;
    if (drop > 0) {
      --drop;
      continue;
    }
    left.push_back(std::move(events_[i]));
    left_is_checkpoint.push_back(is_checkpoint_[i]);
  }
  events_ = std::move(left);
  is_checkpoint_ = std::move(left_is_checkpoint);
  events_dropped_ += to_drop;
  ++events_changes_;
}

void RunHistory::went_back(int64_t step) {
  steps_.cut(step);
  tests_.cut(step);
}

std::string RunHistory::to_json(const Cursor& since) const {
  const uint64_t generation = 1 + steps_.changes() + tests_.changes() + events_changes_;
  const Cursor from = since.generation == generation ? since : Cursor{};
  std::string events;
  for (size_t i = std::min(from.events, events_.size()); i < events_.size(); ++i)
    events.append(events.empty() ? "" : ",").append(events_[i]);
  return fmt::format(
      "{{\"generation\":{},\"epoch\":{},\"steps\":{},\"tests\":{},\"events\":{{\"from\":{},\"dropped\":{},\"list\":[{}]"
      "}}}}",
      generation, epoch_, steps_.to_json(from.steps), tests_.to_json(from.tests), std::min(from.events, events_.size()),
      events_dropped_, events);
}

RunHistory read_metrics(const std::filesystem::path& file, bool& is_torn) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error))
    throw InputError(fmt::format("{}: {}, expected the metrics of a run", file.string(),
                                 std::filesystem::exists(file, error) ? "is no file" : "is not there"));
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError(fmt::format("{}: cannot be read, expected the metrics of a run", file.string()));
  RunHistory history;
  std::string line;
  int64_t number = 1;
  std::array<char, 1 << 16> part;
  const auto add = [&] {
    try {
      history.add_line(line);
    } catch (const InputError& bad) {
      throw InputError(fmt::format("{}: line {}: {}", file.string(), number, bad.what()));
    }
  };
  while (in.read(part.data(), part.size()), in.gcount() > 0) {
    std::string_view rest(part.data(), static_cast<size_t>(in.gcount()));
    for (size_t end; (end = rest.find('\n')) != rest.npos; rest.remove_prefix(end + 1)) {
      line += rest.substr(0, end);
      add();
      line.clear();
      ++number;
    }
    line += rest;
    if (line.size() > kMaxMetricsLineBytes) add();  // refuses it
  }
  is_torn = !line.empty();
  return history;
}

}  // namespace tempo::page
