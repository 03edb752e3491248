// The `tempo` command: parses the command line and calls include/tempo/run.h.
#include <algorithm>
#include <array>
#include <string_view>

#include "base/secret.h"
#include "commands.h"
#include "common/program.h"

namespace {

/// The other commands move bytes, and need not be started twice: loading LibTorch alone takes most of their time.
bool is_computing(int argc, char** argv) {
  constexpr std::array<std::string_view, 6> kCommands = {"train", "plan", "eval", "predict", "export", "serve"};
  return argc > 1 && std::find(kCommands.begin(), kCommands.end(), argv[1]) != kCommands.end();
}

}  // namespace

int main(int argc, char** argv) {
  if (is_computing(argc, argv)) tempo::apps::set_up_runtime(argv);
  CLI::App app{"Tempo: trains neural networks on machines that are not trusted.", "tempo"};
  app.require_subcommand(1);
  app.set_version_flag("--version", TEMPO_VERSION);
  tempo::apps::add_train(app);
  tempo::apps::add_plan(app);
  tempo::apps::add_report(app);
  tempo::apps::add_eval(app);
  tempo::apps::add_predict(app);
  tempo::apps::add_export(app);
  tempo::apps::add_keygen(app);
  tempo::apps::add_verify_evidence(app);
  tempo::apps::add_policy(app);
  tempo::apps::add_seal(app);
  tempo::apps::add_unseal(app);
#ifdef TEMPO_HAS_SERVICE
  tempo::apps::add_serve(app);
  tempo::apps::add_submit(app);
  tempo::apps::add_status(app);
  tempo::apps::add_logs(app);
  tempo::apps::add_fetch(app);
  tempo::apps::add_cancel(app);
#endif
  return tempo::apps::run_program(app, argc, argv, tempo::protect_process_memory);
}
