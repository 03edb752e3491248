/// The JSON header of a safetensors file; private to safetensors.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/formats/safetensors.h"

namespace tempo::train::safetensors {

inline constexpr std::string_view kMetadataKey = "__metadata__";
inline constexpr size_t kMaxExtents = 16;

/// One tensor as the header announces it. Offsets count from the end of the header.
struct HeaderEntry {
  std::string name, dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;
};
struct Header {
  std::vector<HeaderEntry> entries;  // in the order of the text
  SafetensorsMetadata metadata;
};

/// Accepts the format's fields and nothing else; memory is bounded by the length of the text. Names are unique, shapes
/// and offsets are in range for their types; what they mean is not checked.
/// @throws InputError
Header parse_header(const std::string& json, const std::string& source);

/// Bytes of one element. @throws InputError beginning with `where` for a dtype that is not known.
size_t dtype_bytes(std::string_view dtype, const std::string& where);

}  // namespace tempo::train::safetensors
