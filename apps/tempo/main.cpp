// The `tempo` command: parses the command line and calls include/tempo/run.h.
#include <algorithm>
#include <array>
#include <string_view>

#include "base/secret.h"
#include "commands.h"
#include "common/program.h"
#include "observe/standard_streams.h"

namespace {

/// What `tempo` alone prints.
constexpr const char* kBeginnings = R"(Tempo trains neural networks on machines that are not trusted.

Three commands to begin with:

  tempo keygen --out key
  tempo train --model resnet20 --data synthetic --train-size 2000 --test-size 500 --epochs 3 \
      --workers inprocess: --key key --out run
  tempo report run

The first makes a key file, which keeps the checkpoints of a run. The second trains a small network on generated
images; a worker inside the same process computes on blinded operands. The third writes a page about that run.

tempo --help lists all commands, tempo COMMAND --help the flags of one.
)";

/// The other commands move bytes, and need not be started twice: loading LibTorch alone takes most of their time.
bool is_computing(int argc, char** argv) {
  constexpr std::array<std::string_view, 7> kCommands = {"train",  "plan",    "eval", "predict",
                                                         "export", "picture", "serve"};
  return argc > 1 && std::find(kCommands.begin(), kCommands.end(), argv[1]) != kCommands.end();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1)
    return tempo::observe::run_and_report("tempo", [] {
      tempo::observe::print_text(kBeginnings);
      return 0;
    });
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
  tempo::apps::add_picture(app);
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
  tempo::apps::add_completion(app);
  return tempo::apps::run_program(app, argc, argv, tempo::protect_process_memory);
}
