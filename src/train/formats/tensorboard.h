/// TensorBoard event files: TFRecord frames around the messages of proto/tempo/tensorboard.proto, scalars only.
/// Frame: u64 length, masked CRC-32C of the length, payload, masked CRC-32C of the payload; little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

namespace tempo::train {

/// Appends scalars to one event file of a folder. Metrics are not secret: the file is not sealed. Not thread-safe.
class TensorBoardWriter {
 public:
  /// Makes the folder if need be, and opens events.out.tfevents.<unix time>.<pid>.tempo in it for appending.
  /// @param first_step the step that comes next: a viewer drops what earlier files have of it and of later ones.
  /// @throws RunError if that fails.
  TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step);

  /// @param tag e.g. "train/loss"; a slash makes a group in the viewer.
  /// @throws RunError if the file cannot be written.
  void scalar(std::string_view tag, double value, int64_t step);
  /// Hands everything to the operating system, so that a viewer sees it. Also done on destruction.
  void flush();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  struct Closer {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };
  void append(const std::vector<std::byte>& event);

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Closer> file_;
};

/// The messages and the frame on their own, for tests. `wall_time` in seconds since 1970.
std::vector<std::byte> encode_version_event(double wall_time);
/// SessionLog START: scalars of `step` and later that stand before it are void.
std::vector<std::byte> encode_session_start_event(double wall_time, int64_t step);
std::vector<std::byte> encode_scalar_event(double wall_time, int64_t step, std::string_view tag, float value);
std::vector<std::byte> frame_record(const std::vector<std::byte>& payload);

}  // namespace tempo::train
