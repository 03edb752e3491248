#include "child.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <boost/process.hpp>
#include <boost/process/extend.hpp>
#include <csignal>

#include "tempo/error.h"

namespace tempo::bench {

namespace process = boost::process;

struct Child::Process {
  process::ipstream output;
  process::child child;
};

Child::Child(const std::filesystem::path& program, const std::vector<std::string>& arguments,
             const std::filesystem::path& messages)
    : process_(std::make_unique<Process>()) {
  const auto end_with_parent = [](auto&) { prctl(PR_SET_PDEATHSIG, SIGKILL); };
  try {
    process_->child =
        process::child(process::exe = program.string(), process::args = arguments, process::std_out > process_->output,
                       process::std_err > messages.string(), process::extend::on_exec_setup = end_with_parent);
  } catch (const process::process_error& error) {
    throw RunError(fmt::format("bench: cannot start {}: {}", program.string(), error.code().message()));
  }
}

Child::~Child() {
  std::error_code error;
  if (!process_->child.running(error)) return;
  kill(process_->child.id(), SIGTERM);
  process_->child.wait(error);
}

std::string Child::next_line() {
  std::string line;
  if (!std::getline(process_->output, line) || line.empty()) throw RunError("bench: a program ended without a word");
  return line;
}

int Child::wait() {
  for (std::string rest; std::getline(process_->output, rest);) {  // a full pipe would stop it
  }
  process_->child.wait();
  const int status = process_->child.native_exit_code();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace tempo::bench
