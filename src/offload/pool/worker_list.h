/// The workers that a run may use: a list of URIs, or a file of them that may change while the run goes on.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tempo::offload {

/// Not thread-safe.
class WorkerList {
 public:
  /// @param text URIs separated by commas, or "file:PATH", a file with one URI a line in which "#" begins a comment.
  /// @throws InputError if the file cannot be read, no worker is named, one is named twice, or a URI has no known form.
  explicit WorkerList(const std::string& text);

  [[nodiscard]] const std::vector<std::string>& uris() const { return uris_; }
  /// Returns the new list if the file has changed since the last call. If the file cannot be read or holds a mistake,
  /// the list stays as it is, and `problem` says what is wrong, once for each change of the file.
  std::optional<std::vector<std::string>> changed(std::string& problem);

 private:
  struct Stamp {
    std::filesystem::file_time_type time;
    uintmax_t bytes = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };
  [[nodiscard]] std::optional<Stamp> stamp() const;

  std::filesystem::path file_;  // empty if the workers are listed in the text itself
  std::vector<std::string> uris_;
  std::optional<Stamp> seen_;
};

}  // namespace tempo::offload
