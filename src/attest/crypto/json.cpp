#include "attest/crypto/json.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <set>

#include "base/byte_reader.h"
#include "base/text.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr int kMaxJsonDepth = 16;

/// Refuses depth and double keys while the text is read.
class Guard {
 public:
  explicit Guard(const std::string& what) : what_(what) {}

  bool operator()(int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxJsonDepth) throw InputError(fmt::format("{}: JSON deeper than {} levels", what_, kMaxJsonDepth));
    if (event == Json::parse_event_t::object_start) keys_.emplace_back();
    if (event == Json::parse_event_t::object_end) keys_.pop_back();
    if (event == Json::parse_event_t::key && !keys_.back().insert(value.get_ref<const std::string&>()).second)
      throw InputError(fmt::format("{}: the key {} is there twice", what_,
                                   quote_untrusted(value.get_ref<const std::string&>(), 40)));
    return true;
  }

 private:
  const std::string& what_;
  std::vector<std::set<std::string>> keys_;
};

/// Walks over JSON that is known to be well-formed.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void step() { at_ = std::min(at_ + 1, text_.size()); }

  std::string_view string() {
    const size_t begin = at_;
    for (step(); at_ < text_.size() && text_[at_] != '"'; step())
      if (text_[at_] == '\\') step();
    step();
    return text_.substr(begin, at_ - begin);
  }

  std::string_view value() {
    const size_t begin = at_;
    int depth = 0;
    while (at_ < text_.size()) {
      const char symbol = text_[at_];
      if (depth == 0 && (symbol == ',' || symbol == '}' || symbol == ']')) break;
      if (symbol == '"') {
        string();
        continue;
      }
      if (symbol == '{' || symbol == '[') ++depth;
      if (symbol == '}' || symbol == ']') --depth;
      step();
    }
    size_t end = at_;
    while (end > begin && std::string_view(" \t\r\n").find(text_[end - 1]) != std::string_view::npos) --end;
    return text_.substr(begin, end - begin);
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

Json parse_json_object(std::string_view text, const std::string& what) {
  check_text(text, what);  // the parser would end at a NUL, whatever follows
  Json value;
  try {
    value = Json::parse(text, Guard(what));
  } catch (const Json::exception& error) {
    throw InputError(fmt::format("{}: not JSON: {}", what, quote_untrusted(error.what(), 160)));
  }
  if (!value.is_object()) throw InputError(fmt::format("{}: expected a JSON object", what));
  return value;
}

JsonFields::JsonFields(const Json& object, std::string what) : object_(object), what_(std::move(what)) {
  if (!object.is_object()) throw InputError(fmt::format("{}: expected an object", what_));
}

std::string JsonFields::name(std::string_view field) const { return fmt::format("{}: {}", what_, field); }

const Json* JsonFields::find(const char* field) {
  asked_.emplace_back(field);
  const auto found = object_.find(field);
  return found == object_.end() ? nullptr : &*found;
}

const Json& JsonFields::need(const char* field) {
  const Json* found = find(field);
  if (found == nullptr) throw InputError(fmt::format("{}: is missing", name(field)));
  return *found;
}

std::string JsonFields::text(const char* field, size_t max_bytes) {
  const Json& value = need(field);
  if (!value.is_string() || value.get_ref<const std::string&>().size() > max_bytes)
    throw InputError(fmt::format("{}: expected a text of at most {} bytes", name(field), max_bytes));
  return value.get<std::string>();
}

uint64_t JsonFields::number(const char* field, uint64_t max) {
  const Json& value = need(field);
  if (!value.is_number_unsigned() || value.get<uint64_t>() > max)
    throw InputError(fmt::format("{}: expected a whole number from 0 to {}", name(field), max));
  return value.get<uint64_t>();
}

bool JsonFields::boolean(const char* field) {
  const Json& value = need(field);
  if (!value.is_boolean()) throw InputError(fmt::format("{}: expected true or false", name(field)));
  return value.get<bool>();
}

const Json& JsonFields::array(const char* field, size_t max_count) {
  const Json& value = need(field);
  if (!value.is_array() || value.size() > max_count)
    throw InputError(fmt::format("{}: expected a list of at most {}", name(field), max_count));
  return value;
}

void JsonFields::refuse_others() const {
  for (const auto& [key, value] : object_.items())
    if (std::find(asked_.begin(), asked_.end(), key) == asked_.end())
      throw InputError(fmt::format("{}: unknown key {}", what_, quote_untrusted(key, 40)));
}

std::string_view raw_value(std::string_view object, std::string_view key, const std::string& what) {
  Scanner scanner(object);
  scanner.skip_space();
  scanner.step();  // {
  for (;;) {
    scanner.skip_space();
    if (scanner.peek() != '"') break;
    const std::string_view name = scanner.string();
    scanner.skip_space();
    scanner.step();  // :
    scanner.skip_space();
    const std::string_view value = scanner.value();
    if (name.size() == key.size() + 2 && name.substr(1, key.size()) == key) return value;
    scanner.skip_space();
    if (scanner.peek() != ',') break;
    scanner.step();
  }
  throw InputError(fmt::format("{}: {} is missing", what, key));
}

std::string to_base64(ByteView bytes) {
  std::string out(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                    sodium_base64_VARIANT_ORIGINAL);
  out.pop_back();  // its terminating zero
  return out;
}

Bytes from_base64(std::string_view text, size_t max_bytes, const std::string& what) {
  if (text.size() / 4 > (max_bytes + 2) / 3)
    throw InputError(fmt::format("{}: more than {} bytes, expected at most that", what, max_bytes));
  if (text.size() % 4 != 0) throw InputError(fmt::format("{}: not base64", what));
  if (text.empty()) return {};  // libsodium takes no null pointer
  Bytes out(text.size() / 4 * 3);
  size_t size = 0;
  if (sodium_base642bin(reinterpret_cast<unsigned char*>(out.data()), out.size(), text.data(), text.size(), nullptr,
                        &size, nullptr, sodium_base64_VARIANT_ORIGINAL) != 0)
    throw InputError(fmt::format("{}: not base64", what));
  if (size > max_bytes) throw InputError(fmt::format("{}: {} bytes, expected at most {}", what, size, max_bytes));
  out.resize(size);
  return out;
}

}  // namespace tempo::attest
