/// Reads and writes the kinds of field that a policy has. Internal to policy.cpp.
#pragma once

#include <fmt/format.h>

#include <limits>
#include <set>
#include <string>
#include <type_traits>

#include "attest/crypto/json.h"
#include "attest/policy.h"
#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {

using Names = std::set<std::string, std::less<>>;
/// A required field must be written out, and a required list must not be empty.
enum class Presence { kOptional, kRequired };

class PolicyReader {
 public:
  explicit PolicyReader(JsonFields& fields) : fields_(fields) {}

  template <typename Number>
  void number(const char* field, Number& value, Presence presence = Presence::kOptional) {
    if (is_there(field, presence))
      value = static_cast<Number>(fields_.number(field, std::numeric_limits<Number>::max()));
  }
  template <typename Number>
  void optional_number(const char* field, std::optional<Number>& value) {
    if (is_there(field, Presence::kOptional)) number(field, value.emplace());
  }
  void boolean(const char* field, bool& value) {
    if (is_there(field, Presence::kOptional)) value = fields_.boolean(field);
  }
  template <size_t kBytes>
  void digest(const char* field, std::array<std::byte, kBytes>& value, Presence presence = Presence::kOptional) {
    if (is_there(field, presence)) value = digest_from_hex<kBytes>(fields_.text(field), fields_.name(field));
  }
  template <size_t kBytes>
  void digests(const char* field, std::vector<std::array<std::byte, kBytes>>& values,
               Presence presence = Presence::kOptional) {
    if (!is_there(field, presence)) return;
    for (const Json& item : list(field, presence))
      values.push_back(digest_from_hex<kBytes>(text_of(item, field), fields_.name(field)));
  }
  template <typename Value>
  void allowed(const char* field, Allowed<Value>& value) {
    if (!is_there(field, Presence::kOptional)) return;
    value.any = fields_.need(field) == "any";
    if (!value.any) digests(field, value.values);
  }
  /// @param known all that may be there; null for anything.
  void names(const char* field, std::set<std::string>& values, const Names* known,
             Presence presence = Presence::kOptional) {
    if (!is_there(field, presence)) return;
    values.clear();
    for (const Json& item : list(field, presence)) {
      const std::string name = text_of(item, field);
      if (known != nullptr && !known->contains(name))
        throw InputError(fmt::format("{}: got {}, expected {}", fields_.name(field), quote_untrusted(name),
                                     fmt::join(*known, ", ")));
      values.insert(name);
    }
  }
  template <typename Section, typename Describe>
  void section(const char* field, Section& value, const Describe& describe) {
    read_section(fields_.need(field), fields_.name(field), value, describe);
  }
  template <typename Section, typename Describe>
  void optional_section(const char* field, std::optional<Section>& value, const Describe& describe) {
    if (const Json* found = fields_.find(field)) read_section(*found, fields_.name(field), value.emplace(), describe);
  }
  template <typename Section, typename Describe>
  void sections(const char* field, std::vector<Section>& values, const Describe& describe) {
    if (!is_there(field, Presence::kOptional)) return;
    for (const Json& item : list(field, Presence::kOptional))
      read_section(item, fields_.name(field), values.emplace_back(), describe);
  }

 private:
  static constexpr size_t kMaxCount = 1000, kMaxTextBytes = 200;

  bool is_there(const char* field, Presence presence) {
    return presence == Presence::kRequired ? (fields_.need(field), true) : fields_.find(field) != nullptr;
  }
  const Json& list(const char* field, Presence presence) {
    const Json& values = fields_.array(field, kMaxCount);
    if (presence == Presence::kRequired && values.empty())
      throw InputError(fmt::format("{}: is empty, expected at least one", fields_.name(field)));
    return values;
  }
  std::string text_of(const Json& item, const char* field) {
    if (!item.is_string() || item.get_ref<const std::string&>().size() > kMaxTextBytes)
      throw InputError(fmt::format("{}: expected a list of texts", fields_.name(field)));
    return item.get<std::string>();
  }
  template <typename Section, typename Describe>
  static void read_section(const Json& json, const std::string& what, Section& value, const Describe& describe) {
    JsonFields fields(json, what);
    PolicyReader reader(fields);
    describe(reader, value);
    fields.refuse_others();
  }

  JsonFields& fields_;
};

class PolicyWriter {
 public:
  using Ordered = nlohmann::ordered_json;

  Ordered& json() { return json_; }

  template <typename Number>
  void number(const char* field, const Number& value, Presence = Presence::kOptional) {
    json_[field] = value;
  }
  template <typename Number>
  void optional_number(const char* field, const std::optional<Number>& value) {
    if (value) json_[field] = *value;
  }
  void boolean(const char* field, const bool& value) { json_[field] = value; }
  template <size_t kBytes>
  void digest(const char* field, const std::array<std::byte, kBytes>& value, Presence = Presence::kOptional) {
    json_[field] = to_hex(value);
  }
  template <size_t kBytes>
  void digests(const char* field, const std::vector<std::array<std::byte, kBytes>>& values,
               Presence = Presence::kOptional) {
    Ordered& list = json_[field] = Ordered::array();
    for (const auto& value : values) list.push_back(to_hex(value));
  }
  template <typename Value>
  void allowed(const char* field, const Allowed<Value>& value) {
    if (value.any)
      json_[field] = "any";
    else
      digests(field, value.values);
  }
  void names(const char* field, const std::set<std::string>& values, const Names*, Presence = Presence::kOptional) {
    json_[field] = values;
  }
  template <typename Section, typename Describe>
  void section(const char* field, Section& value, const Describe& describe) {
    PolicyWriter writer;
    describe(writer, value);
    json_[field] = writer.json();
  }
  template <typename Section, typename Describe>
  void optional_section(const char* field, std::optional<Section>& value, const Describe& describe) {
    if (value) section(field, *value, describe);
  }
  template <typename Section, typename Describe>
  void sections(const char* field, std::vector<Section>& values, const Describe& describe) {
    Ordered& list = json_[field] = Ordered::array();
    for (Section& value : values) {
      PolicyWriter writer;
      describe(writer, value);
      list.push_back(writer.json());
    }
  }

 private:
  Ordered json_ = Ordered::object();
};

}  // namespace tempo::attest
