// The `tempo-bench` command: speed against yardsticks that are measured in the same run.
#include <cstdio>
#include <exception>
#include <string>

#include "benches.h"
#include "tempo/error.h"
#ifdef TEMPO_BENCH_TRAIN
#include "common/program.h"
#endif

int main(int argc, char** argv) try {
#ifdef TEMPO_BENCH_TRAIN
  tempo::apps::set_up_runtime(argv);  // memory as in the programs that are measured
#endif
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "kernels") return tempo::bench::run_kernels(argc - 1, argv + 1);
  if (command == "seal") return tempo::bench::run_seal(argc - 1, argv + 1);
  if (command == "attest") return tempo::bench::run_attest(argc - 1, argv + 1);
#ifdef TEMPO_BENCH_TRANSPORT
  if (command == "transport") return tempo::bench::run_transport(argc - 1, argv + 1);
#endif
#ifdef TEMPO_BENCH_TRAIN
  if (command == "train") return tempo::bench::run_train(argc - 1, argv + 1);
  if (command == "plain") return tempo::bench::run_plain(argc - 1, argv + 1);
#endif
  if (command == "compare") return tempo::bench::run_compare(argc - 1, argv + 1);
  std::fprintf(
      stderr,
      "tempo-bench: got the command \"%s\", expected one of kernels, seal, attest, train, plain, transport, compare\n",
      command.c_str());
  return 2;
} catch (const tempo::Error& error) {
  std::fprintf(stderr, "tempo-bench: %s\n", error.what());
  return static_cast<int>(error.exit_code());
} catch (const std::exception& error) {
  std::fprintf(stderr, "tempo-bench: %s\n", error.what());
  return 1;
}
