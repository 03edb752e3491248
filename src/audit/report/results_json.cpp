#include "audit/report/results_json.h"

#include <fmt/format.h>

#include <concepts>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "tempo/error.h"

namespace tempo::audit {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "tempo-audit-results/1";

/// T or const T: the same list of fields serves writing and reading, so that neither can forget one.
template <typename Record, typename T>
concept Is = std::same_as<std::remove_const_t<Record>, T>;

template <typename Io, Is<SettingResult> Record>
void fields(Io& io, Record& r) {
  io("name", r.name);
  io("flags", r.flags);
  io("is_default", r.is_default);
  io("tee_cpu_seconds_per_sample", r.tee_cpu_seconds_per_sample);
  io("blind_seconds_per_sample", r.blind_seconds_per_sample);
  io("bytes_per_sample", r.bytes_per_sample);
}

template <typename Io, Is<FindingResult> Record>
void fields(Io& io, Record& r) {
  io("setting", r.setting);
  io("start", r.start);
  io("layer", r.layer);
  io("attack", r.attack);
  io("target", r.target);
  io("measure", r.measure);
  io("applicable", r.applicable);
  io("score", r.score);
  io("chance", r.chance);
  io("noise", r.noise);
  io("beats_chance", r.beats_chance);
  io("counterfactual", r.counterfactual);
  io("given_truth", r.given_truth);
  io("note", r.note);
  io("steps_to_win", r.steps_to_win);
  io("seconds", r.seconds);
}

template <typename Io, Is<PoolingCurve> Record>
void fields(Io& io, Record& r) {
  io("setting", r.setting);
  io("layer", r.layer);
  io("steps", r.steps);
  io("score", r.score);
  io("chance", r.chance);
}

template <typename Io, Is<SurrogateResult> Record>
void fields(Io& io, Record& r) {
  io("start_from", r.start_from);
  io("budget", r.budget);
  io("accuracy", r.accuracy);
  io("fidelity", r.fidelity);
  io("transfer", r.transfer);
  io("membership", r.membership);
}

template <typename Io, Is<InformationResult> Record>
void fields(Io& io, Record& r) {
  io("setting", r.setting);
  io("layer", r.layer);
  io("left_key_bits", r.left_key_bits);
  io("inner_key_bits", r.inner_key_bits);
  io("right_key_bits", r.right_key_bits);
  io("mutual_information_bits", r.mutual_information_bits);
  io("rows", r.rows);
  io("rows_mixed", r.rows_mixed);
  io("channels_mixed", r.channels_mixed);
}

template <typename Io, Is<TamperingResult> Record>
void fields(Io& io, Record& r) {
  io("relative_error", r.relative_error);
  io("final_loss", r.final_loss);
  io("test_accuracy", r.test_accuracy);
  io("is_refused", r.is_refused);
}

template <typename Io, Is<VictimResult> Record>
void fields(Io& io, Record& r) {
  io("model", r.model);
  io("data", r.data);
  io("train_images", r.train_images);
  io("test_images", r.test_images);
  io("steps_trained", r.steps_trained);
  io("batch_size", r.batch_size);
  io("test_accuracy", r.test_accuracy);
  io("layers", r.layers);
  io("steps_recorded", r.steps_recorded);
}

template <typename Io, Is<AuditResults> Record>
void fields(Io& io, Record& r) {
  io("version", r.version);
  io("command", r.command);
  io("date", r.date);
  io("machine", r.machine);
  io("victim", r.victim);
  io("settings", r.settings);
  io("findings", r.findings);
  io("pooling", r.pooling);
  io("surrogates", r.surrogates);
  io("information", r.information);
  io("tampering", r.tampering);
}

class Writer {
 public:
  template <typename T>
  void operator()(const char* key, const T& value) {
    json_[key] = write(value);
  }
  [[nodiscard]] Json take() { return std::move(json_); }

 private:
  static Json write(const std::string& value) { return value; }
  static Json write(bool value) { return value; }
  static Json write(int value) { return value; }
  static Json write(int64_t value) { return value; }
  static Json write(double value) { return value; }  // not finite: the library writes null
  static Json write(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }
  template <typename T>
  static Json write(const std::vector<T>& values) {
    Json array = Json::array();
    for (const T& value : values) array.push_back(write(value));
    return array;
  }
  template <typename Record>
  static Json write(const Record& record) {
    Writer writer;
    fields(writer, record);
    return writer.take();
  }

  Json json_ = Json::object();
};

/// Text of a file may end up on a terminal.
std::string printable(std::string_view text) {
  constexpr size_t kMost = 60;
  std::string out;
  for (const char c : text.substr(0, kMost)) out += c < 0x20 || c == 0x7f ? '?' : c;
  return text.size() > kMost ? out + "..." : out;
}

class Reader {
 public:
  /// `where` names the file and the place in it: "results.json: findings[3]"; `separator` parts it from a field.
  Reader(const Json& json, std::string where, std::string_view separator)
      : json_(json), where_(std::move(where)), separator_(separator) {
    if (!json_.is_object()) refuse(where_, json_, "an object");
  }

  template <typename T>
  void operator()(const char* key, T& value) {
    const auto found = json_.find(key);
    if (found == json_.end()) throw InputError(fmt::format("{}: has no \"{}\", expected one", where_, key));
    read(*found, place(key), value);
  }

 private:
  [[noreturn]] static void refuse(const std::string& where, const Json& json, std::string_view expected) {
    throw InputError(fmt::format("{}: is {}, expected {}", where, json.type_name(), expected));
  }
  [[nodiscard]] std::string place(std::string_view key) const { return fmt::format("{}{}{}", where_, separator_, key); }

  static void read(const Json& json, const std::string& where, std::string& value) {
    if (!json.is_string()) refuse(where, json, "a string");
    value = json.get<std::string>();
  }
  static void read(const Json& json, const std::string& where, bool& value) {
    if (!json.is_boolean()) refuse(where, json, "true or false");
    value = json.get<bool>();
  }
  static void read(const Json& json, const std::string& where, int64_t& value) {
    if (!json.is_number_integer()) refuse(where, json, "a whole number");
    if (json.is_number_unsigned() && !std::in_range<int64_t>(json.get<uint64_t>()))
      throw InputError(fmt::format("{}: is {}, expected below 2^63", where, json.get<uint64_t>()));
    value = json.get<int64_t>();
  }
  static void read(const Json& json, const std::string& where, int& value) {
    int64_t wide = 0;
    read(json, where, wide);
    if (!std::in_range<int>(wide)) throw InputError(fmt::format("{}: is {}, expected at most 2^31", where, wide));
    value = static_cast<int>(wide);
  }
  static void read(const Json& json, const std::string& where, double& value) {
    if (!json.is_number() && !json.is_null()) refuse(where, json, "a number or null");
    value = json.is_null() ? 0 : json.get<double>();
  }
  static void read(const Json& json, const std::string& where, std::optional<double>& value) {
    if (!json.is_number() && !json.is_null()) refuse(where, json, "a number or null");
    value = json.is_null() ? std::nullopt : std::optional<double>(json.get<double>());
  }
  template <typename T>
  static void read(const Json& json, const std::string& where, std::vector<T>& values) {
    if (!json.is_array()) refuse(where, json, "an array");
    values.clear();
    for (const Json& item : json) {
      const std::string place = fmt::format("{}[{}]", where, values.size());
      read(item, place, values.emplace_back());
    }
  }
  template <typename Record>
  static void read(const Json& json, const std::string& where, Record& record) {
    Reader reader(json, where, ".");
    fields(reader, record);
  }

  const Json& json_;
  std::string where_;
  std::string_view separator_;
};

void check(const AuditResults& results, const std::string& source) {
  std::set<std::string_view> names;
  int defaults = 0;
  for (const SettingResult& setting : results.settings) {
    if (!names.insert(setting.name).second)
      throw InputError(
          fmt::format("{}: setting \"{}\" comes twice, expected every name once", source, printable(setting.name)));
    defaults += setting.is_default ? 1 : 0;
  }
  if (defaults > 1)
    throw InputError(fmt::format("{}: {} settings are marked as the default, expected one at most", source, defaults));
  for (size_t i = 0; i < results.findings.size(); ++i) {
    const std::string& start = results.findings[i].start;
    if (start != "secret" && start != "public")
      throw InputError(
          fmt::format("{}: findings[{}].start: is \"{}\", expected secret or public", source, i, printable(start)));
  }
  for (size_t i = 0; i < results.pooling.size(); ++i) {
    const PoolingCurve& curve = results.pooling[i];
    if (curve.steps.size() != curve.score.size())
      throw InputError(fmt::format("{}: pooling[{}]: has {} steps and {} scores, expected as many", source, i,
                                   curve.steps.size(), curve.score.size()));
  }
}

}  // namespace

std::string to_json(const AuditResults& results) {
  Writer writer;
  writer("format", std::string(kFormat));
  fields(writer, results);
  return writer.take().dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

AuditResults results_from_json(const std::string& text, const std::string& source) {
  check_text(text, source);
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw InputError(fmt::format("{}: is not JSON at byte {} of {}, expected what `tempo-audit run` wrote", source,
                                 error.byte, text.size()));
  } catch (const Json::out_of_range&) {  // a number such as 1e999
    throw InputError(
        fmt::format("{}: has a number beyond double precision, expected what `tempo-audit run` wrote", source));
  }
  Reader reader(json, source, ": ");
  std::string format;
  reader("format", format);
  if (format != kFormat)
    throw InputError(fmt::format("{}: format is \"{}\", expected \"{}\"", source, printable(format), kFormat));
  AuditResults results;
  fields(reader, results);
  check(results, source);
  return results;
}

}  // namespace tempo::audit
