/// Which workers a run may use: a list of URIs, or a file of them that may change while the run goes on.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tempo::offload {

/// Not thread-safe.
class WorkerList {
 public:
  /// @param text URIs separated by commas, or "file:PATH": a URI a line, "#" begins a comment.
  /// @throws InputError for a file that cannot be read, no worker, one named twice, or a URI of no known form.
  explicit WorkerList(const std::string& text);

  [[nodiscard]] const std::vector<std::string>& uris() const { return uris_; }
  /// The new list, if the file was changed since. A file that cannot be read or holds a mistake changes nothing:
  /// `problem` then says what is wrong, once.
  std::optional<std::vector<std::string>> changed(std::string& problem);

 private:
  struct Stamp {
    std::filesystem::file_time_type time;
    uintmax_t bytes = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };
  [[nodiscard]] std::optional<Stamp> stamp() const;

  std::filesystem::path file_;  // empty for a list
  std::vector<std::string> uris_;
  std::optional<Stamp> seen_;
};

}  // namespace tempo::offload
