/// JSON from outside: bounded, without the liberties that make two readers disagree.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "attest/types.h"

namespace tempo::attest {

using Json = nlohmann::json;

/// @throws InputError naming `what` for anything but one JSON object: more than 16 levels, a key twice, other bytes.
Json parse_json_object(std::string_view text, const std::string& what);

/// Reads the fields of one object by name, and knows which were asked for.
class JsonFields {
 public:
  /// @param what names the object in messages, e.g. "policy.json: sev-snp". @throws InputError if it is no object.
  JsonFields(const Json& object, std::string what);

  [[nodiscard]] const std::string& what() const { return what_; }
  [[nodiscard]] std::string name(std::string_view field) const;
  /// Null if it is not there.
  const Json* find(const char* field);
  const Json& need(const char* field);
  std::string text(const char* field, size_t max_bytes = 256);
  /// An unsigned number up to `max`.
  uint64_t number(const char* field, uint64_t max);
  bool boolean(const char* field);
  /// An array of at most `max_count`.
  const Json& array(const char* field, size_t max_count);
  /// @throws InputError naming the first field that nobody asked for.
  void refuse_others() const;

 private:
  const Json& object_;
  std::string what_;
  std::vector<std::string> asked_;
};

/// The text of the value of `key` in an object that `parse_json_object` has accepted, byte for byte as it was sent.
std::string_view raw_value(std::string_view object, std::string_view key, const std::string& what);

std::string to_base64(ByteView bytes);
/// Strict: standard alphabet, padded, nothing else. @throws InputError naming `what`.
Bytes from_base64(std::string_view text, size_t max_bytes, const std::string& what);

inline std::string_view as_text(ByteView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline ByteView as_view(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

}  // namespace tempo::attest
