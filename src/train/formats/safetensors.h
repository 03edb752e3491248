/// The safetensors format: u64 header length, JSON header, tensor bytes; little-endian, row-major.
/// https://github.com/huggingface/safetensors (README, "Format")
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tempo::train {

/// One tensor. `dtype` is one of F32, F64, F16, BF16, I64, U8, BOOL. `data` borrows.
struct TensorEntry {
  std::string name, dtype;
  std::vector<int64_t> shape;  ///< at most 16 extents; none for a scalar
  std::span<const std::byte> data;
};

using SafetensorsMetadata = std::map<std::string, std::string>;
/// Receives a file front to back, piece by piece.
using ByteSink = std::function<void(std::span<const std::byte>)>;

/// Longest JSON header, in bytes, as in the reference implementation.
inline constexpr size_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// Writes entries and metadata to `sink`. The bytes of wider types come first, in the order given otherwise, and the
/// header is padded with spaces to a multiple of 8, so that every tensor is aligned to its elements.
/// @throws InputError for an entry that no reader would accept: an empty or repeated name, one that is not UTF-8, an
/// unknown dtype, a shape that is not that of the data.
void write_safetensors(const ByteSink& sink, std::span<const TensorEntry> entries, const SafetensorsMetadata& metadata);

/// A parsed file, which owns the bytes that its entries show, and wipes them: they may come out of a sealed file.
/// Movable, not copyable. Reading it is thread-safe.
class SafetensorsFile {
 public:
  SafetensorsFile(SafetensorsFile&&) noexcept = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;
  ~SafetensorsFile();

  /// In the order of their bytes. The data may be unaligned if another program wrote the file.
  [[nodiscard]] const std::vector<TensorEntry>& entries() const { return entries_; }
  [[nodiscard]] const SafetensorsMetadata& metadata() const { return metadata_; }
  /// Null if there is no tensor of that name. Cost: one pass over the entries.
  [[nodiscard]] const TensorEntry* find(std::string_view name) const;

 private:
  friend SafetensorsFile parse_safetensors(std::vector<std::byte> bytes, const std::string& source_name);
  SafetensorsFile() = default;

  std::vector<std::byte> bytes_;
  std::vector<TensorEntry> entries_;
  SafetensorsMetadata metadata_;
};

/// Checks everything before it allocates anything larger than the header: the header's length (at most 100 MB), its
/// JSON (only the fields of the format, nothing twice), names, dtypes, shapes, and that the tensors fill the rest of
/// the file without gap or overlap.
/// @param source_name names the bytes in messages, e.g. a path.
/// @throws InputError for anything else, naming the source, the tensor and what was expected.
SafetensorsFile parse_safetensors(std::vector<std::byte> bytes, const std::string& source_name);

}  // namespace tempo::train
