// The `tempo-bench` command: speed against yardsticks that are measured in the same run.
#include <fmt/format.h>

#include <string>

#include "benches.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"
#ifdef TEMPO_BENCH_TRAIN
#include "common/program.h"
#endif

namespace {

int run(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "kernels") return tempo::bench::run_kernels(argc - 1, argv + 1);
  if (command == "seal") return tempo::bench::run_seal(argc - 1, argv + 1);
  if (command == "attest") return tempo::bench::run_attest(argc - 1, argv + 1);
#ifdef TEMPO_BENCH_TRANSPORT
  if (command == "transport") return tempo::bench::run_transport(argc - 1, argv + 1);
#endif
#ifdef TEMPO_BENCH_TRAIN
  if (command == "train") return tempo::bench::run_train(argc - 1, argv + 1);
  if (command == "width") return tempo::bench::run_width(argc - 1, argv + 1);
  if (command == "instant-worker") return tempo::bench::run_instant_worker(argc - 1, argv + 1);
  if (command == "plain") return tempo::bench::run_plain(argc - 1, argv + 1);
#endif
  if (command == "compare") return tempo::bench::run_compare(argc - 1, argv + 1);
  throw tempo::InputError(
      fmt::format("got the command \"{}\", expected one of kernels, seal, attest, train, width, plain, instant-worker, "
                  "transport, compare",
                  command));
}

}  // namespace

int main(int argc, char** argv) {
#ifdef TEMPO_BENCH_TRAIN
  tempo::apps::set_up_runtime(argv);  // memory as in the programs that are measured
#endif
  return tempo::observe::run_and_report("tempo-bench", [&] { return run(argc, argv); });
}
