// The `tempo` command: parses the command line and calls include/tempo/run.h.
#include <fmt/format.h>
#include <torch/torch.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "base/secret.h"
#include "commands.h"
#include "tempo/error.h"

namespace {

int report(const std::string& message, tempo::ExitCode code) {
  // One line, whatever a library put into its message.
  fmt::print(stderr, "tempo: {}\n", message.substr(0, message.find('\n')));
  return static_cast<int>(code);
}

/// OpenMP threads spin while they wait, by default. On a machine that does anything else they then steal the time of
/// the very work they wait for (docs/results.md), and waiting is booked as the TEE's CPU time. The runtime reads its
/// policy once, before main: so it is set and the program started anew. Whoever set a policy keeps it.
void sleep_while_waiting(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0) execv("/proc/self/exe", argv);
  // Where exec is not allowed the program goes on, only slower.
}

}  // namespace

int main(int argc, char** argv) {
  sleep_while_waiting(argv);
  CLI::App app{"Tempo: trains neural networks on machines that are not trusted.", "tempo"};
  app.require_subcommand(1);
  app.set_version_flag("--version", TEMPO_VERSION);
  tempo::apps::add_train(app);
  tempo::apps::add_plan(app);
  tempo::apps::add_eval(app);
  tempo::apps::add_predict(app);
  tempo::apps::add_export(app);
  tempo::apps::add_keygen(app);
  if (argc > 1 && argv[1][0] != '-') {
    std::string names;
    bool is_known = false;
    for (const auto* command : app.get_subcommands({})) {
      is_known = is_known || command->get_name() == argv[1];
      names += (names.empty() ? "" : ", ") + command->get_name();
    }
    if (!is_known)
      return report(fmt::format("got the command \"{}\", expected one of {}", argv[1], names),
                    tempo::ExitCode::kBadInput);
  }
  try {
    tempo::protect_process_memory();
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return report(fmt::format("{}; see tempo --help", error.what()), tempo::ExitCode::kBadInput);
  } catch (const tempo::Error& error) {
    return report(error.what(), error.exit_code());
  } catch (const c10::Error& error) {
    return report(error.what_without_backtrace(), tempo::ExitCode::kFailed);
  } catch (const std::exception& error) {
    return report(error.what(), tempo::ExitCode::kFailed);
  }
  return 0;
}
