/// Programs that a benchmark starts beside itself.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace tempo::bench {

/// A program under way, over Boost.Process; ended with the object, and with this program. Its standard error goes to a
/// file. @throws RunError if it cannot start.
class Child {
 public:
  Child(const std::filesystem::path& program, const std::vector<std::string>& arguments,
        const std::filesystem::path& messages);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Waits for the next line of its standard output. @throws RunError if it ends without one
  std::string next_line();
  /// Waits for its end. @returns the exit code, or 128 + the signal that ended it.
  int wait();

 private:
  struct Process;
  std::unique_ptr<Process> process_;
};

}  // namespace tempo::bench
