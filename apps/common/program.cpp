#include "common/program.h"

#include <fmt/format.h>
#include <torch/torch.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tempo/error.h"

namespace tempo::apps {
namespace {

int report(const CLI::App& app, const std::string& message, ExitCode code) {
  // One line, whatever a library put into its message.
  fmt::print(stderr, "{}: {}\n", app.get_name(), message.substr(0, message.find('\n')));
  return static_cast<int>(code);
}

/// CLI11 would say only that something was not expected.
bool is_unknown_command(const CLI::App& app, const std::string& word, std::string& names) {
  bool is_known = false;
  for (const auto* command : app.get_subcommands({})) {
    is_known = is_known || command->get_name() == word;
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  return !is_known;
}

}  // namespace

void sleep_while_waiting(char** argv) {
  // OpenMP threads spin while they wait, by default. On a machine that does anything else they then steal the time of
  // the very work they wait for (docs/results.md), and waiting is booked as the TEE's CPU time. The runtime reads its
  // policy once, before main: so it is set and the program started anew. Whoever set a policy keeps it.
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0) execv("/proc/self/exe", argv);
  // Where exec is not allowed the program goes on, only slower.
}

int run_program(CLI::App& app, int argc, char** argv, const std::function<void()>& prepare) {
  if (std::string names;
      !app.get_subcommands({}).empty() && argc > 1 && argv[1][0] != '-' && is_unknown_command(app, argv[1], names))
    return report(app, fmt::format("got the command \"{}\", expected one of {}", argv[1], names), ExitCode::kBadInput);
  try {
    if (prepare) prepare();
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return report(app, fmt::format("{}; see {} --help", error.what(), app.get_name()), ExitCode::kBadInput);
  } catch (const Error& error) {
    return report(app, error.what(), error.exit_code());
  } catch (const c10::Error& error) {
    return report(app, error.what_without_backtrace(), ExitCode::kFailed);
  } catch (const std::exception& error) {
    return report(app, error.what(), ExitCode::kFailed);
  }
  return 0;
}

}  // namespace tempo::apps
