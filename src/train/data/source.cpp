#include "train/data/source.h"

#include <fmt/format.h>

#include "base/byte_reader.h"
#include "base/file.h"
#include "base/path.h"
#include "seal/sealed_archive.h"
#include "tempo/error.h"

namespace tempo::train {
namespace {

class Folder : public DataSource {
 public:
  explicit Folder(std::filesystem::path path) : path_(std::move(path)) {
    std::error_code error;
    if (!std::filesystem::is_directory(path_, error))
      throw InputError(fmt::format("{}: no such folder, expected one with a data set", path_.string()));
  }
  [[nodiscard]] std::string name() const override { return path_.string(); }
  [[nodiscard]] std::vector<std::string> files() const override {
    std::vector<std::string> found;
    std::error_code error;
    for (auto entry = std::filesystem::directory_iterator(path_, error); entry != std::filesystem::directory_iterator();
         entry.increment(error))
      found.push_back(entry->path().filename());
    if (error) fail_at(path_, "read", error.value());
    return found;
  }
  void read(const std::string& file, size_t max_bytes, const Use& use) const override {
    const auto path = path_ / file;
    use(read_file(path, max_bytes), path.string());
  }

 private:
  std::filesystem::path path_;
};

class Sealed : public DataSource {
 public:
  Sealed(const std::filesystem::path& path, const SecretKey& key) : name_(path.string()), archive_(path, key) {}
  [[nodiscard]] std::string name() const override { return name_; }
  [[nodiscard]] std::vector<std::string> files() const override {
    std::vector<std::string> found;
    for (const seal::ArchiveEntry& entry : archive_.entries())
      if (!entry.is_folder && entry.path.find('/') == std::string::npos) found.push_back(entry.path);
    return found;
  }
  void read(const std::string& file, size_t max_bytes, const Use& use) const override {
    const seal::ArchiveEntry* entry = archive_.find(file);
    const std::string source = fmt::format("{}: {}", name_, quote_untrusted(file));
    if (entry == nullptr) throw InputError(fmt::format("{}: no such file in the archive", source));
    use(archive_.read_all(*entry, max_bytes).bytes(), source);
  }

  [[nodiscard]] std::string id() const { return archive_.id(); }

 private:
  std::string name_;
  seal::SealedArchive archive_;
};

}  // namespace

std::unique_ptr<DataSource> open_folder(const std::filesystem::path& folder) {
  return std::make_unique<Folder>(folder);
}
std::unique_ptr<DataSource> open_sealed(const std::filesystem::path& archive, const SecretKey& key,
                                        const std::string& id) {
  auto sealed = std::make_unique<Sealed>(archive, key);
  if (!id.empty() && sealed->id() != id)
    throw InputError(fmt::format("{}: is archive {}, expected {}: another was put in its place", archive.string(),
                                 sealed->id(), id));
  return sealed;
}

}  // namespace tempo::train
