#include "train/formats/safetensors_header.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/byte_reader.h"
#include "base/text.h"
#include "tempo/error.h"

namespace tempo::train::safetensors {
namespace {

using Json = nlohmann::json;

/// Takes the events of the parser one by one, so that no tree is ever built: a state says where in the header we are,
/// and everything that the format does not have in that place is refused.
class HeaderHandler final : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderHandler(const std::string& source) : source_(source) {}
  Header take() { return std::move(header_); }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart)
      place_ = Place::kRoot;
    else if (place_ == Place::kRoot && key_ == kMetadataKey)
      place_ = Place::kMetadata;
    else if (place_ == Place::kRoot)
      begin_tensor();
    else
      refuse("an object");
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor && (!has_dtype_ || !has_shape_ || !has_offsets_))
      fail(fmt::format("has no {}, expected dtype, shape and data_offsets",
                       !has_dtype_ ? "dtype" : (!has_shape_ ? "shape" : "data_offsets")));
    place_ = place_ == Place::kRoot ? Place::kDone : Place::kRoot;
    return true;
  }

  bool key(string_t& name) override {
    if (place_ == Place::kRoot) {
      if (!names_.insert(name).second)
        throw InputError(fmt::format("{}: safetensors header: {} stands there twice", source_, quote_untrusted(name)));
      key_ = std::move(name);
    } else if (place_ == Place::kMetadata) {
      if (header_.metadata.contains(name)) fail(fmt::format("has {} twice", quote_untrusted(name)));
      field_ = std::move(name);
    } else {
      bool* seen = name == "dtype"          ? &has_dtype_
                   : name == "shape"        ? &has_shape_
                   : name == "data_offsets" ? &has_offsets_
                                            : nullptr;
      if (seen == nullptr)
        fail(fmt::format("has a field {}, expected dtype, shape and data_offsets", quote_untrusted(name)));
      if (*seen) fail(fmt::format("has {} twice", name));
      *seen = true;
      field_ = std::move(name);
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata)
      header_.metadata.emplace(std::move(field_), std::move(value));
    else if (place_ == Place::kTensor && field_ == "dtype")
      tensor().dtype = std::move(value);
    else
      refuse("a string");
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kTensor && field_ == "shape")
      place_ = Place::kShape;
    else if (place_ == Place::kTensor && field_ == "data_offsets")
      place_ = Place::kOffsets;
    else
      refuse("an array");
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offsets_ != 2) fail(fmt::format("has {} data_offsets, expected 2", offsets_));
    place_ = Place::kTensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (tensor().shape.size() == kMaxExtents) fail(fmt::format("has more than {} extents", kMaxExtents));
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        fail(fmt::format("has an extent of {}, expected at most 2^63 - 1", value));
      tensor().shape.push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::kOffsets) {
      if (offsets_ == 2) fail("has more than 2 data_offsets, expected 2");
      (offsets_++ == 0 ? tensor().begin : tensor().end) = value;
    } else {
      refuse("a number");
    }
    return true;
  }

  bool number_integer(number_integer_t) override { return refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return refuse("a fraction or a number beyond 2^64"); }
  bool boolean(bool) override { return refuse("true or false"); }
  bool null() override { return refuse("null"); }
  bool binary(binary_t&) override { return refuse("binary"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw InputError(fmt::format("{}: safetensors header: no valid JSON at its byte {}", source_, position));
  }

 private:
  enum class Place { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets, kDone };

  HeaderEntry& tensor() { return header_.entries.back(); }

  void begin_tensor() {
    place_ = Place::kTensor;
    header_.entries.emplace_back().name = key_;
    has_dtype_ = has_shape_ = has_offsets_ = false;
    offsets_ = 0;
    field_.clear();
  }

  [[noreturn]] void fail(const std::string& what) const {
    const std::string subject = key_ == kMetadataKey ? key_ : "tensor " + quote_untrusted(key_);
    throw InputError(fmt::format("{}: safetensors header: {} {}", source_, subject, what));
  }

  [[noreturn]] bool refuse(const char* found) const {
    fail(fmt::format("holds {} where {} is expected", found, expected()));
  }

  [[nodiscard]] const char* expected() const {
    switch (place_) {
      case Place::kMetadata:
        return "a string";
      case Place::kTensor:
        return field_ == "dtype" ? "a string" : "an array";
      case Place::kShape:
      case Place::kOffsets:
        return "a whole number";
      default:
        return "an object";
    }
  }

  const std::string& source_;
  Header header_;
  std::set<std::string> names_;
  Place place_ = Place::kStart;
  std::string key_, field_;  // the key last read in the root, and in the object within it
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  int offsets_ = 0;
};

}  // namespace

Header parse_header(const std::string& json, const std::string& source) {
  check_text(json, source + ": safetensors header");  // the parser would end at a NUL, whatever follows
  if (!json.starts_with('{'))
    throw InputError(fmt::format("{}: safetensors header: expected it to begin with an opening brace", source));
  HeaderHandler handler(source);
  Json::sax_parse(json, &handler);
  return handler.take();
}

size_t dtype_bytes(std::string_view dtype, const std::string& where) {
  if (dtype == "F64" || dtype == "I64") return 8;
  if (dtype == "F32") return 4;
  if (dtype == "F16" || dtype == "BF16") return 2;
  if (dtype == "U8" || dtype == "BOOL") return 1;
  throw InputError(
      fmt::format("{} has dtype {}, expected F32, F64, F16, BF16, I64, U8 or BOOL", where, quote_untrusted(dtype)));
}

}  // namespace tempo::train::safetensors
