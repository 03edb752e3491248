// tempo serve: the job service, in the TEE.
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "attest/source.h"
#include "base/file.h"
#include "base/text.h"
#include "commands.h"
#include "common/program.h"
#include "observe/standard_streams.h"
#include "service/server.h"
#include "stop_signal.h"
#include "tempo/run.h"

namespace tempo::apps {
namespace {

struct ServeFlags {
  std::string listen = "localhost:7070", state, tee = "auto", log, evidence;
  service::ServerOptions options;
  uint64_t max_upload_mb = 16 << 10;

  void add_to(CLI::App& command) {
    RunConfig& base = options.base;
    command.add_option("--listen", listen, "HOST:PORT to serve at (port 0: a free one)")->capture_default_str();
    command.add_option("--state", state, "folder of the jobs: sealed states and checkpoints")
        ->required()
        ->type_name("DIR");
    command.add_option("--tee", tee, "where evidence comes from: auto, configfs-tsm, gramine, insecure-simulated")
        ->capture_default_str();
    command.add_option("--evidence", evidence, "write a piece of evidence at the start, for tempo policy init")
        ->type_name("FILE");
    command.add_option("--workers", base.workers, "workers of all jobs, as for train")->capture_default_str();
    command.add_option("--tls", base.tls, "folder of certificates for grpc:// workers")->type_name("DIR");
    command.add_option("--worker-timeout", base.worker_timeout, "seconds; a worker whose reply takes longer is lost")
        ->check(Number::whole(1, 1 << 20))
        ->capture_default_str();
    command.add_option("--worker-wait", base.worker_wait, "seconds to wait for a worker where none is left")
        ->check(Number::whole(0, 1 << 20))
        ->capture_default_str();
    command.add_option("--tee-threads", base.tee_threads, "threads of a job; 0: all cores")
        ->check(Number::whole(0, 1024))
        ->capture_default_str();
    command.add_option("--max-upload", max_upload_mb, "largest sealed data set, MiB")
        ->check(Number::whole(1, int64_t{1} << 30))
        ->capture_default_str();
    command.add_option("--max-jobs", options.store.jobs, "of all clients together")
        ->check(Number::whole(1, 1 << 20))
        ->capture_default_str();
    command.add_option("--max-jobs-per-client", options.store.jobs_per_client, "of one client")
        ->check(Number::whole(1, 1 << 20))
        ->capture_default_str();
    command.add_option("--max-connections", options.listener.connections, "at once")
        ->check(Number::whole(1, 1 << 16))
        ->capture_default_str();
    command
        .add_option("--page", options.page,
                    "list the jobs in a browser at http://HOST:PORT/, in plain, to whoever reaches it; PORT alone: on "
                    "localhost (port 0: a free one)")
        ->type_name("HOST:PORT");
    command.add_option("--log", log, "append log lines, JSON objects, to FILE; -: to standard error")
        ->type_name("FILE");
  }
};

void serve(ServeFlags& flags) {
  listen_for_stop();
  check_text(flags.options.base.workers, "--workers");
  check_text(flags.options.base.tls, "--tls");
  flags.options.listen = wire::parse_host_port(flags.listen);
  flags.options.state = flags.state;
  flags.options.store.archive_bytes = flags.max_upload_mb << 20;
  const auto log = flags.log.empty() ? std::make_unique<observe::Log>() : std::make_unique<observe::Log>(flags.log);
  const auto evidence = attest::make_evidence_source(flags.tee);
  if (evidence->tee() == attest::Tee::kInsecureSimulated)
    observe::note(
        "WARNING: --tee insecure-simulated: this is NO trusted execution environment. Whoever runs this machine can "
        "read every data set, key and model. For tests only.\n");
  // Once before anybody asks: a platform that gives none is found out now.
  const std::string sample = attest::to_json(evidence->collect(attest::ReportData{}));
  if (!flags.evidence.empty()) {
    AtomicFile file(flags.evidence);
    file.write(sample);
    file.commit();
  }
  const service::Server server(flags.options, *evidence, run_training, *log);
  observe::print("serving at {}, evidence: {}\nconfiguration: {}\n",
                 wire::to_string({flags.options.listen.host, server.port()}), attest::name_of(evidence->tee()),
                 server.configuration());
  if (!server.page().empty()) observe::print("page at {}\n", server.page());
  observe::flush_output();
  log->info("service_started", {{"tee", attest::name_of(evidence->tee())}, {"port", server.port()}});
  while (!stop_asked) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  log->info("service_stopping", {});
}

}  // namespace

void add_serve(CLI::App& app) {
  auto* command = app.add_subcommand("serve", "Run the job service: train for clients that attest this machine first");
  auto flags = std::make_shared<ServeFlags>();
  flags->add_to(*command);
  command->callback([flags] { serve(*flags); });
}

}  // namespace tempo::apps
