/// A file on its way to its name.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <filesystem>
#include <string>

#include "base/descriptor.h"

namespace tempo {

/// Lies beside its final name as NAME.tmp.XXXXXXXX, eight hexadecimal digits, and is removed on destruction unless it
/// was put in place. It is locked while it is open: what a killed process left is not, and the next TemporaryFile of
/// the same name removes it.
class TemporaryFile {
 public:
  /// @param mode as for open(2). @throws InputError or RunError, as `fail_at`.
  TemporaryFile(std::filesystem::path path, mode_t mode);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  /// Takes over owner, group and mode of the file that it is to replace, as far as this process may. Nobody gets
  /// permissions that they did not have there.
  void look_like(const struct stat& replaced);
  void write(std::span<const std::byte> bytes) { write_next(file_.get(), bytes, temporary_.string()); }

  /// Both sync first, and are called once, last.
  /// Takes the name, whatever has it.
  void put_in_place();
  /// @returns false, and leaves what is there, if the name is taken.
  bool put_in_place_if_free();

 private:
  void sync();

  std::filesystem::path path_, temporary_;
  UniqueDescriptor file_;
};

}  // namespace tempo
