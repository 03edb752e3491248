/// Where the files of a data set come from: a folder, or a sealed archive of one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/secret.h"

namespace tempo::train {

class DataSource {
 public:
  virtual ~DataSource() = default;

  /// The name of the folder or archive, for messages.
  [[nodiscard]] virtual std::string name() const = 0;
  /// What lies right in it, in any order.
  [[nodiscard]] virtual std::vector<std::string> files() const = 0;
  /// Lends a whole file to `use`, with its name for messages. What was sealed is wiped afterwards.
  /// @throws InputError if it is missing, cannot be read, is larger than `max_bytes`, or was altered.
  using Use = std::function<void(std::span<const std::byte> bytes, const std::string& source)>;
  virtual void read(const std::string& file, size_t max_bytes, const Use& use) const = 0;
};

/// @throws InputError if there is no such folder.
std::unique_ptr<DataSource> open_folder(const std::filesystem::path& folder);
/// Reads straight from the archive: nothing of it is written anywhere.
/// @param id which archive it must be, as `SealedArchive::id`; "": any of that key.
/// @throws as seal::SealedArchive, and InputError for another archive.
std::unique_ptr<DataSource> open_sealed(const std::filesystem::path& archive, const SecretKey& key,
                                        const std::string& id = "");

}  // namespace tempo::train
