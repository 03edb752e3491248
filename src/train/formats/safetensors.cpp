#include "train/formats/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sodium.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "base/byte_reader.h"
#include "tempo/error.h"
#include "train/formats/safetensors_header.h"

namespace tempo::train {
namespace {

using safetensors::dtype_bytes;

/// Bytes that a shape announces. @throws InputError beginning with `where` if there is no such number.
uint64_t announced_bytes(std::string_view dtype, const std::vector<int64_t>& shape, const std::string& where) {
  uint64_t bytes = dtype_bytes(dtype, where);
  for (const int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes))
      throw InputError(fmt::format("{} has shape [{}], which has no size in bytes", where, fmt::join(shape, ", ")));
  return bytes;
}

void check_bytes(std::string_view dtype, const std::vector<int64_t>& shape, uint64_t given, const std::string& where) {
  if (const uint64_t announced = announced_bytes(dtype, shape, where); given != announced)
    throw InputError(fmt::format("{} has {} bytes, its shape {}[{}] needs {}", where, given, dtype,
                                 fmt::join(shape, ", "), announced));
}

void check_entries(std::span<const TensorEntry> entries) {
  std::set<std::string_view> names;
  for (const TensorEntry& entry : entries) {
    const std::string where = "safetensors: tensor " + quote_untrusted(entry.name);
    if (entry.name.empty() || entry.name == safetensors::kMetadataKey)
      throw InputError(where + " has a name that the format does not allow");
    if (!names.insert(entry.name).second) throw InputError(where + " is given twice");
    if (entry.shape.size() > safetensors::kMaxExtents)
      throw InputError(
          fmt::format("{} has {} extents, expected at most {}", where, entry.shape.size(), safetensors::kMaxExtents));
    check_bytes(entry.dtype, entry.shape, entry.data.size(), where);
  }
}

std::string header_text(std::span<const TensorEntry* const> ordered, const SafetensorsMetadata& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(safetensors::kMetadataKey)] = metadata;
  uint64_t begin = 0;
  for (const TensorEntry* entry : ordered) {
    const uint64_t end = begin + entry->data.size();
    header[entry->name] = {{"dtype", entry->dtype}, {"shape", entry->shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error&) {
    throw InputError("safetensors: a name or the metadata is not valid UTF-8");
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kMaxSafetensorsHeaderBytes)
    throw InputError(fmt::format("safetensors: names and metadata need a header of {} bytes, expected at most {}",
                                 text.size(), kMaxSafetensorsHeaderBytes));
  return text;
}

/// Checks one announced tensor against its shape and against where the one before it ended.
void check_placed(const safetensors::HeaderEntry& entry, uint64_t previous_end, uint64_t available,
                  const std::string& source) {
  const std::string where = fmt::format("{}: tensor {}", source, quote_untrusted(entry.name));
  if (entry.name.empty()) throw InputError(where + " has no name");
  if (entry.begin > entry.end || entry.end > available)
    throw InputError(fmt::format("{} has data_offsets {} to {}, expected them in order within {} bytes", where,
                                 entry.begin, entry.end, available));
  if (entry.begin != previous_end)
    throw InputError(fmt::format("{} begins at {}, expected {}: tensors must neither overlap nor leave gaps", where,
                                 entry.begin, previous_end));
  check_bytes(entry.dtype, entry.shape, entry.end - entry.begin, where);
}

}  // namespace

void write_safetensors(const ByteSink& sink, std::span<const TensorEntry> entries,
                       const SafetensorsMetadata& metadata) {
  check_entries(entries);
  std::vector<const TensorEntry*> ordered;
  for (const TensorEntry& entry : entries) ordered.push_back(&entry);
  std::stable_sort(ordered.begin(), ordered.end(), [](const TensorEntry* a, const TensorEntry* b) {
    return dtype_bytes(a->dtype, a->name) > dtype_bytes(b->dtype, b->name);
  });

  const std::string text = header_text(ordered, metadata);
  std::vector<std::byte> length;
  append_u64(length, text.size());
  sink(length);
  sink(std::as_bytes(std::span(text.data(), text.size())));
  for (const TensorEntry* entry : ordered)
    if (!entry->data.empty()) sink(entry->data);
}

SafetensorsFile::~SafetensorsFile() {
  if (!bytes_.empty()) sodium_memzero(bytes_.data(), bytes_.size());
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const TensorEntry& entry) { return entry.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

SafetensorsFile parse_safetensors(std::vector<std::byte> bytes, const std::string& source_name) {
  SafetensorsFile file;
  file.bytes_ = std::move(bytes);
  ByteReader reader(file.bytes_, source_name);
  const uint64_t header_bytes = reader.u64();
  if (header_bytes > kMaxSafetensorsHeaderBytes || header_bytes > reader.left())
    throw InputError(fmt::format("{}: safetensors header of {} bytes, expected at most {}", source_name, header_bytes,
                                 std::min(kMaxSafetensorsHeaderBytes, reader.left())));
  safetensors::Header header = safetensors::parse_header(reader.text(header_bytes), source_name);
  const auto data = reader.bytes(reader.left());

  const auto place = [](const safetensors::HeaderEntry& entry) { return std::tie(entry.begin, entry.end); };
  std::stable_sort(header.entries.begin(), header.entries.end(),
                   [&](const auto& a, const auto& b) { return place(a) < place(b); });
  uint64_t end = 0;
  for (auto& entry : header.entries) {
    check_placed(entry, end, data.size(), source_name);
    end = entry.end;
    file.entries_.push_back({std::move(entry.name), std::move(entry.dtype), std::move(entry.shape),
                             data.subspan(entry.begin, entry.end - entry.begin)});
  }
  if (end != data.size())
    throw InputError(fmt::format("{}: {} bytes of tensors, the header describes {}", source_name, data.size(), end));
  file.metadata_ = std::move(header.metadata);
  return file;
}

}  // namespace tempo::train
