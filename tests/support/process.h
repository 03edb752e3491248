/// A program that runs beside a test and never outlives it.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

extern char** environ;  // NOLINT: POSIX wants it declared so

namespace tempo::testing {

class Process {
 public:
  explicit Process(std::vector<std::string> command) {
    std::vector<char*> arguments;
    for (std::string& argument : command) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    EXPECT_EQ(posix_spawn(&id_, arguments[0], nullptr, nullptr, arguments.data(), environ), 0) << arguments[0];
  }
  ~Process() { kill(); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// At once, as a crash would; waits until it is gone.
  void kill() {
    if (id_ <= 0) return;
    ::kill(id_, SIGKILL);
    waitpid(id_, nullptr, 0);
    id_ = -1;
  }
  [[nodiscard]] bool is_running() const { return id_ > 0 && waitpid(id_, nullptr, WNOHANG) == 0; }
  [[nodiscard]] pid_t id() const { return id_; }

 private:
  pid_t id_ = -1;
};

}  // namespace tempo::testing
