#include "observe/standard_streams.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "tempo/error.h"

namespace tempo::observe {
namespace {

std::atomic<int> g_output_error{0};  // errno of the first failure of standard output

void keep_output_error(int error) noexcept {
  int none = 0;
  g_output_error.compare_exchange_strong(none, error);
}

class OutputError : public RunError {
 public:
  explicit OutputError(int error)
      : RunError(fmt::format("standard output: cannot be written: {}; what was printed there is lost",
                             std::generic_category().message(error))),
        is_reader_gone_(error == EPIPE) {}
  [[nodiscard]] bool is_reader_gone() const { return is_reader_gone_; }

 private:
  bool is_reader_gone_;
};

/// A path may hold what ends a line or commands a terminal.
std::string without_control_characters(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n')
      line += "\\n";
    else if (byte < 0x20 || byte == 0x7f)
      line += fmt::format("\\x{:02x}", byte);
    else
      line += c;
  }
  return line;
}

int report(std::string_view program, std::string_view message, ExitCode code) noexcept {
  std::fflush(stdout);  // what was printed before comes before
  try {
    note("{}: {}\n", program, without_control_characters(message));
  } catch (const std::exception&) {  // no memory for a line
    note_text(message);
    note_text("\n");
  }
  return static_cast<int>(code);
}

/// Descriptors are for peers and workers, of which there may be many.
void claim_descriptors() {
  constexpr rlim_t kFewest = 64, kMost = 65536;
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::max(limit.rlim_cur, std::min(limit.rlim_max, kMost));
  if (limit.rlim_cur < kFewest)
    throw RunError(fmt::format("{} files may be open at the same time, expected at least {}; see ulimit -n",
                               limit.rlim_cur, kFewest));
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int end_without_reader() {
  std::signal(SIGPIPE, SIG_DFL);
  std::raise(SIGPIPE);
  return static_cast<int>(ExitCode::kFailed);  // where the signal is blocked
}

}  // namespace

void open_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0) continue;
    // The lowest free number is taken, and those below are open by now.
    if (::open("/dev/null", O_RDWR) == stream) continue;
    constexpr std::string_view kReason = "a standard stream is closed and /dev/null cannot be opened in its place\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kReason.data(), kReason.size());
    std::_Exit(static_cast<int>(ExitCode::kFailed));
  }
}

// The loader runs these before the initialisers of any library.
__attribute__((section(".preinit_array"), used)) void (*const g_open_standard_streams)() = open_standard_streams;

void print_text(std::string_view text) noexcept {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) keep_output_error(errno);
}

void flush_output() {
  if (std::fflush(stdout) != 0) keep_output_error(errno);
  if (std::ferror(stdout) != 0) keep_output_error(EIO);  // other code wrote, and its reason is gone
  if (const int error = g_output_error; error != 0) throw OutputError(error);
}

void note_text(std::string_view text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

int run_and_report(std::string_view program, const std::function<int()>& work) try {
  std::signal(SIGPIPE, SIG_IGN);
  claim_descriptors();
  const int code = work();
  flush_output();
  return code;
} catch (const OutputError& error) {
  return error.is_reader_gone() ? end_without_reader() : report(program, error.what(), error.exit_code());
} catch (const Error& error) {
  return report(program, error.what(), error.exit_code());
} catch (const std::filesystem::filesystem_error& error) {
  return report(program, fmt::format("{}: {}", error.path1().string(), error.code().message()), ExitCode::kBadInput);
} catch (const std::exception& error) {
  return report(program, first_line(error.what()), ExitCode::kFailed);
}

std::string_view first_line(std::string_view message) { return message.substr(0, message.find('\n')); }

}  // namespace tempo::observe
