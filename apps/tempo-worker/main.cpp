// The `tempo-worker` command: serves masters with the linear algebra of blinded operands. UNTRUSTED: it holds no key,
// no model and no data, and links no code that does.
#include <fmt/format.h>

#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/program.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"
#include "worker/collective.h"
#include "worker/executor.h"
#include "worker/server/grpc_server.h"
#include "worker/server/process_memory.h"
#include "worker/server/shm_server.h"
#include "worker/telemetry.h"

namespace tempo::apps {
namespace {

struct WorkerFlags {
  std::vector<std::string> listen;
  worker::ServerOptions options;
  double memory_limit = 0, segment = 0;  // GiB
  std::string metrics, log;              // where to; empty: nowhere
  worker::CollectiveOptions collective;
  double collective_timeout = 10;  // seconds
};

/// What watches the worker, if anybody wants to.
struct Watching {
  explicit Watching(const WorkerFlags& flags) {
    if (!flags.log.empty()) log = std::make_unique<observe::Log>(flags.log);
    if (!flags.metrics.empty()) server = std::make_unique<observe::MetricsServer>(flags.metrics, metrics);
  }

  observe::Metrics metrics;
  std::unique_ptr<observe::Log> log = std::make_unique<observe::Log>();
  std::unique_ptr<observe::MetricsServer> server;
};

constexpr double kGibibyte = double{1U << 30};

std::unique_ptr<worker::Server> serve(const std::string& uri, const worker::ServerOptions& options) {
  constexpr std::string_view kShm = "shm://", kGrpc = "grpc://", kInsecure = "insecure://";
  if (uri.starts_with(kShm)) return worker::serve_shm(uri.substr(kShm.size()), options);
  if (uri.starts_with(kGrpc)) return worker::serve_grpc(uri.substr(kGrpc.size()), options);
  if (uri.starts_with(kInsecure)) return worker::serve_insecure(uri.substr(kInsecure.size()), options);
  throw InputError(
      fmt::format("--listen: got \"{}\", expected shm://NAME, grpc://HOST:PORT or insecure://HOST:PORT", uri));
}

/// Null without --collective.
std::shared_ptr<worker::Collective> take_part(WorkerFlags& flags) {
  worker::CollectiveOptions& options = flags.collective;
  if (options.listen.empty() && !options.peers.empty())
    throw InputError("--collective-peer: got a peer, expected --collective with it");
  if (options.listen.empty()) return nullptr;
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(flags.collective_timeout * 1000));
  return worker::make_collective(options);
}

/// Blocks until SIGINT or SIGTERM; a second one ends the process at once, also while a sum with other workers is waited
/// for. They must have been blocked before any thread was started.
void wait_for_signal(const sigset_t& signals) {
  int signal = 0;
  while (sigwait(&signals, &signal) != 0) {
  }
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

void run(WorkerFlags& flags) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (flags.options.threads == 0)
    flags.options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  flags.options.limits.memory_bytes = static_cast<uint64_t>(flags.memory_limit * kGibibyte);
  if (flags.segment > 0) flags.options.segment_bytes = static_cast<size_t>(flags.segment * kGibibyte);
  flags.options.collective = take_part(flags);
  Watching watching(flags);
  flags.options.monitor = worker::make_telemetry(watching.metrics, *watching.log);
  std::vector<std::unique_ptr<worker::Server>> servers;  // after what they tell
  for (const std::string& uri : flags.listen) {
    servers.push_back(serve(uri, flags.options));
    observe::print("listening on {}, device {}, {}\n", servers.back()->address(), flags.options.device,
                   worker::Executor::version());
  }
  if (watching.server) observe::print("metrics at {}\n", watching.server->address());
  if (flags.options.collective != nullptr)
    observe::print("sums with other workers through {}\n", flags.options.collective_address());
  observe::flush_output();  // whoever started it may be waiting for these lines
  wait_for_signal(signals);
  observe::note("stopping\n");
}

}  // namespace
}  // namespace tempo::apps

int main(int argc, char** argv) {
  using namespace tempo;
  apps::set_up_runtime(argv);
  worker::keep_freed_memory();
  CLI::App app{"Computes products of blinded operands for Tempo masters. It never sees a key, a model or data.",
               "tempo-worker"};
  app.set_version_flag("--version", TEMPO_VERSION);
  apps::WorkerFlags flags;
  flags.options.threads = 0;
  app.add_option("--listen", flags.listen,
                 "where masters find it: shm://NAME (on this machine), grpc://HOST:PORT (TLS; port 0: a free one), or "
                 "insecure://HOST:PORT (anybody, not encrypted); may repeat")
      ->required()
      ->type_name("URI");
  app.add_option("--device", flags.options.device, "cpu, or cuda:N")->capture_default_str();
  app.add_option("--tls", flags.options.tls_folder, "folder of certificates for grpc://, from tempo keygen --tls")
      ->type_name("DIR");
  app.add_option("--threads", flags.options.threads, "of one product on the CPU; 0: all cores")
      ->check(apps::Number::whole(0, 1024));
  app.add_option("--memory-limit", flags.memory_limit, "GiB of operands that one master may store; 0: no limit")
      ->check(apps::Number::real(0, 1e6));
  app.add_option("--segment", flags.segment, "GiB of shared memory for each master of shm://; 0: the default")
      ->check(apps::Number::real(0, 1e4));
  app.add_option("--max-sessions", flags.options.max_sessions, "masters at the same time")
      ->check(apps::Number::whole(1, 1024));
  app.add_option(
         "--metrics", flags.metrics,
         "serve Prometheus metrics at http://HOST:PORT/metrics, in plain, to whoever reaches it: localhost or a "
         "network for scraping (port 0: a free one)")
      ->type_name("HOST:PORT");
  app.add_option("--log", flags.log, "append log lines, JSON objects, to FILE; -: to standard error")
      ->type_name("FILE|-");
  app.add_option(
         "--collective", flags.collective.listen,
         "HOST:PORT at which other workers reach this one, to sum gradients among themselves; not encrypted; port 0: "
         "a free one")
      ->type_name("HOST:PORT");
  app.add_option("--collective-peer", flags.collective.peers,
                 "host of another worker, as that one's --collective has it, which it may connect to for that; may "
                 "repeat; without one: only this machine's loopback addresses")
      ->type_name("HOST");
  app.add_option("--collective-timeout", flags.collective_timeout, "seconds to wait for the other workers of a sum")
      ->check(apps::Number::real(0.1, 3600))
      ->capture_default_str();
  app.callback([&flags] { apps::run(flags); });
  return apps::run_program(app, argc, argv);
}
