// tempo train | plan: every setting of RunConfig is a flag and a TOML key.
#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "common/program.h"
#include "observe/standard_streams.h"
#include "stop_signal.h"
#include "tempo/run.h"
#include "train/config.h"
#include "train/run_log.h"

namespace tempo::apps {
namespace {

/// The settings of one subcommand, as given on the command line.
struct RunFlags {
  std::string config_file, resume;
  train::Settings given;

  void add_to(CLI::App& command) {
    command.add_option("--config", config_file, "TOML file; flags override it")->type_name("FILE");
    const RunConfig defaults;
    for (const auto& field : train::fields()) {
      const std::string value = field.get(defaults);
      const std::string help = value.empty() ? field.help : fmt::format("{} [{}]", field.help, value);
      const auto store = [this, name = field.name](const std::string& value) { given[name] = value; };
      const std::string flag = "--" + field.name;
      if (field.is_switch)
        command.add_option_function<std::string>(flag, store, help)->expected(0, 1)->default_str("true")->type_name("");
      else
        command.add_option_function<std::string>(flag, store, help)->type_name("");
    }
  }

  /// Defaults, or the resumed run's settings; then --config, then flags.
  RunConfig to_config() const {
    RunConfig config;
    if (!resume.empty()) {
      const auto key = given.find("key");
      config = resumed_config(resume, key == given.end() ? "" : key->second);
    }
    if (!config_file.empty()) train::apply_settings(config, train::read_settings(config_file), config_file + ": ");
    train::apply_settings(config, given, "--");
    return config;
  }
};

}  // namespace

void add_train(CLI::App& app) {
  auto* command = app.add_subcommand(
      "train", "Train a model; the large products run on workers, blinded. Defaults stand in brackets");
  auto flags = std::make_shared<RunFlags>();
  flags->add_to(*command);
  command->add_option("--resume", flags->resume, "go on with the run in this directory")->type_name("DIR");
  command->callback([flags] {
    const RunConfig config = flags->to_config();
    const RunSummary summary = run_training(config, {.stop = &stop_asked, .begins = listen_for_stop});
    observe::print_text(train::to_text(summary));
    if (!summary.completed)
      observe::print("stopped after step {}; go on with: tempo train --resume {}\n", summary.steps, config.out);
  });
}

void add_plan(CLI::App& app) {
  auto* command = app.add_subcommand("plan", "Print which layers would be offloaded, and what a step would cost");
  auto flags = std::make_shared<RunFlags>();
  auto rates = std::make_shared<PlanRates>();
  const Number rate = Number::real(0, 1e9);
  flags->add_to(*command);
  command->add_option("--worker-gflops", rates->worker_gflops, "speed of the workers together; 0: the built-in figure")
      ->check(rate);
  command->add_option("--tee-gflops", rates->tee_gflops, "speed of one core of the TEE; 0: as --rates has it")
      ->check(rate);
  command
      ->add_option("--link-gbytes", rates->link_gbytes_per_second,
                   "link to the workers, GB/s each way; 0: the built-in figure")
      ->check(rate);
  command->callback([flags, rates] { observe::print_text(plan_run(flags->to_config(), *rates)); });
}

}  // namespace tempo::apps
