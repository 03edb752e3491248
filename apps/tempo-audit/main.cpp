// The `tempo-audit` command: attacks what a worker sees of a real training run, and reports.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>

#include "audit/attack.h"
#include "audit/audit.h"
#include "audit/detection.h"
#include "audit/report/html.h"
#include "audit/report/markdown.h"
#include "audit/report/merge.h"
#include "audit/report/results_json.h"
#include "base/file.h"
#include "base/folder_lock.h"
#include "base/path.h"
#include "base/secret.h"
#include "common/program.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"
#include "train/config.h"

namespace tempo::apps {
namespace {

namespace fs = std::filesystem;

void write_text(const fs::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void write_report(const audit::AuditResults& results, const fs::path& out) {
  write_text(out / "audit.md", audit::to_markdown(results, audit::attacks()));
  write_text(out / "audit.html", audit::to_html(results, audit::attacks()));
  observe::print("wrote {}, {}\n", (out / "audit.md").string(), (out / "audit.html").string());
}

struct RunFlags {
  audit::AuditOptions options;
  std::string out, save_views;
  std::vector<std::string> setting_names, added_settings;
  bool quick = false, no_surrogates = false, no_tampering = false;
};

/// "NAME: key=value key=value": the keys are flags of `tempo train`.
audit::Setting parse_setting(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0)
    throw InputError(fmt::format("--add-setting: got \"{}\", expected NAME: key=value key=value", text));
  audit::Setting setting;
  setting.name = text.substr(0, colon);
  train::Settings given;
  std::istringstream words(text.substr(colon + 1));
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos)
      throw InputError(fmt::format("--add-setting: got \"{}\" in {}, expected key=value", word, setting.name));
    given[word.substr(0, equals)] = word.substr(equals + 1);
  }
  RunConfig config;
  for (const auto& [key, value] : given) {
    const auto& known = train::fields();
    if (std::none_of(known.begin(), known.end(), [&, k = key](const auto& field) { return field.name == k; }))
      throw InputError(
          fmt::format("--add-setting: got the key \"{}\" in {}, expected a flag of tempo train", key, setting.name));
  }
  train::apply_settings(config, given, "--add-setting: ");
  config.allow_unprotected = true;
  train::resolve(config);
  setting.blinding = config.blinding;
  return setting;
}

void choose_settings(RunFlags& flags) {
  audit::AuditOptions& options = flags.options;
  options.default_setting = audit::default_setting().name;
  const auto standard = flags.quick ? audit::quick_settings() : audit::standard_settings();
  for (const std::string& name : flags.setting_names) {
    const auto found = std::find_if(standard.begin(), standard.end(), [&](const auto& s) { return s.name == name; });
    if (found == standard.end())
      throw InputError(fmt::format("--setting: got \"{}\", expected a name that tempo-audit settings lists", name));
    options.settings.push_back(*found);
  }
  for (const std::string& text : flags.added_settings) options.settings.push_back(parse_setting(text));
  if (options.settings.empty()) options.settings = standard;
}

/// Surrogates start from the settings named by --steal, or from those of the usual ones that are audited.
void choose_surrogates(const CLI::App& command, RunFlags& flags) {
  std::vector<std::string>& wanted = flags.options.steal_settings;
  if (command.count("--steal") == 0)
    wanted = {"none, tile 4", "permuted integer, reuse full, tile 4", "permuted signed, reuse full, tile 4",
              "permuted signed, reuse full, tile 1", flags.options.default_setting};
  if (flags.quick && command.count("--steal") == 0) wanted = {flags.options.default_setting};
  if (flags.no_surrogates) wanted.clear();
  const auto& audited = flags.options.settings;
  const auto is_unknown = [&](const std::string& name) {
    return std::none_of(audited.begin(), audited.end(), [&](const auto& setting) { return setting.name == name; });
  };
  const auto unknown = std::find_if(wanted.begin(), wanted.end(), is_unknown);
  if (unknown != wanted.end() && command.count("--steal") > 0)
    throw InputError(fmt::format("--steal: got \"{}\", expected a setting that this run audits", *unknown));
  std::erase_if(wanted, is_unknown);
}

/// Small enough for a test: generated images, few steps. What was given on the command line stands.
void make_quick(const CLI::App& command, audit::AuditOptions& options) {
  const auto set = [&](const char* flag, auto& option, const auto& value) {
    if (command.count(flag) == 0) option = value;
  };
  set("--train-steps", options.victim.steps, 420);
  set("--batch-size", options.victim.batch_size, 32);
  set("--steps", options.recording.steps, 4);
  set("--patience", options.patience, 0.2);
  if (options.victim.model == "resnet20")
    set("--layer", options.layers, std::vector<std::string>{"layer2.1.conv1", "layer2.1.conv2"});
  options.synthetic_images = 1600;
  options.synthetic_side = 16;
  options.victim.warmup_steps = 10;
  options.victim.lr = 0.02;
  options.cost_steps = 2;
  options.budgets = 1;
  options.surrogate.steps = 20;
  options.surrogate.transfer_images = 50;
  options.surrogate.membership_images = 100;
  options.tampering_steps = 5;
  options.tampering_errors = {0, 1e-3};
}

void run(const CLI::App& app, RunFlags& flags, const std::string& command) {
  if (flags.quick) make_quick(app, flags.options);
  if (flags.no_tampering) flags.options.tampering_errors.clear();
  choose_settings(flags);
  choose_surrogates(app, flags);
  flags.options.save_views = flags.save_views;
  flags.options.save_weights = flags.out;
  make_folders(flags.out);
  const FolderLock lock(flags.out);
  if (is_there(fs::path(flags.out) / "audit.json"))
    throw InputError(fmt::format("{}: already holds an audit (audit.json), expected another folder", flags.out));
  flags.options.progress = [](const std::string& what) { observe::note("{}\n", what); };
  audit::AuditResults results = audit::run_audit(flags.options);
  results.version = TEMPO_VERSION;
  results.command = command;
  write_text(fs::path(flags.out) / "audit.json", audit::to_json(results));
  write_report(results, flags.out);
}

void add_run(CLI::App& app, const std::string& command_line) {
  auto* command = app.add_subcommand("run", "Train a victim, record what a worker sees under every setting, attack it");
  auto flags = std::make_shared<RunFlags>();
  audit::AuditOptions& o = flags->options;
  command->add_option("--out", flags->out, "folder for audit.json, audit.md, audit.html and the trained weights")
      ->required()
      ->type_name("DIR");
  command->add_flag("--quick", flags->quick, "a small audit on generated images, for a first look and for tests");
  command->add_option("--data", o.data, "CIFAR-10 folder or synthetic")->type_name("DIR");
  command->add_option("--model", o.victim.model, "victim's network");
  command->add_option("--train-steps", o.victim.steps, "steps that the victim is trained")
      ->check(Number::whole(1, 1 << 30));
  command->add_option("--batch-size", o.victim.batch_size, "images a step")->check(Number::whole(2, 1 << 16));
  command->add_option("--victim", o.victim_file, "safetensors of a trained victim, instead of training one");
  command->add_option("--reference", o.reference_file, "safetensors of the attacker's own model, likewise");
  command->add_option("--steps", o.recording.steps, "steps to record")->check(Number::whole(2, 100'000));
  command->add_option("--setting", flags->setting_names, "only these; tempo-audit settings lists them")
      ->type_name("NAME");
  command->add_option("--add-setting", flags->added_settings, "another one: \"NAME: conv-tile=2 row-rounds=6\"");
  command->add_option("--layer", o.layers, "layers to attack; default: six of them")->type_name("NAME");
  command->add_option("--attack", o.attacks, "numbers of attacks; default: all")->check(Number::whole(1, 28));
  command->add_option("--patience", o.patience, "time that attacks may trade for success; 1 is about a second each")
      ->check(Number::real(0.01, 10'000));
  command->add_option("--steal", o.steal_settings, "settings whose recovered weights start a surrogate");
  command->add_flag("--no-surrogates", flags->no_surrogates, "leave model stealing out");
  command->add_flag("--no-tampering", flags->no_tampering, "leave the worker that adds errors out");
  command->add_option("--save-views", flags->save_views, "folder for the recordings themselves")->type_name("DIR");
  command->callback([command, flags, command_line] { run(*command, *flags, command_line); });
}

void add_report(CLI::App& app) {
  auto* command = app.add_subcommand("report", "Draw audit.md and audit.html again, from one or more audit.json");
  auto files = std::make_shared<std::vector<std::string>>();
  auto out = std::make_shared<std::string>();
  command->add_option("files", *files, "audit.json files; their settings are put side by side")->required();
  command->add_option("--out", *out, "folder for audit.md and audit.html")->required()->type_name("DIR");
  command->callback([files, out] {
    constexpr size_t kMaxBytes = size_t{1} << 28;
    std::optional<audit::AuditResults> all;
    for (const std::string& file : *files) {
      audit::AuditResults one = audit::results_from_json(read_text_file_or_pipe(file, kMaxBytes), file);
      if (all)
        audit::append(*all, std::move(one), file);
      else
        all = std::move(one);
    }
    // By its flags: the default may have changed since an audit was made.
    const std::string by_default = audit::flags_of(audit::default_setting());
    for (audit::SettingResult& setting : all->settings) setting.is_default = setting.flags == by_default;
    make_folders(*out);
    const FolderLock lock(*out);
    write_report(*all, *out);
  });
}

void add_detect(CLI::App& app) {
  auto* command = app.add_subcommand("detect", "How often the integrity checks find a worker's lies");
  auto options = std::make_shared<audit::DetectionOptions>();
  auto out = std::make_shared<std::string>();
  command->add_option("--trials", options->trials, "of every lie, on every layer")->check(Number::whole(0, 1 << 30));
  command->add_option("--honest", options->honest, "checks of honest results, in all")
      ->check(Number::whole(0, int64_t{1} << 40));
  command->add_option("--seed", options->seed, "of operands and lies")->check(Number::whole(0, INT64_MAX));
  command->add_option("--out", *out, "Markdown file to write; default: print")->type_name("FILE");
  command->callback([options, out] {
    options->progress = [](const std::string& what) { observe::note("{}\n", what); };
    std::optional<AtomicFile> file;  // before the work: what cannot be written is found out now
    if (!out->empty()) file.emplace(*out);
    const std::string text = audit::to_markdown(audit::measure_detection(*options));
    if (!file) {
      observe::print_text(text);
      return;
    }
    file->write(text);
    file->commit();
  });
}

void add_settings(CLI::App& app) {
  auto* command = app.add_subcommand("settings", "List the settings that are audited by default");
  command->callback([] {
    const std::string by_default = audit::default_setting().name;
    for (const audit::Setting& setting : audit::standard_settings())
      observe::print("{}{}\n    {}\n", setting.name, setting.name == by_default ? "  (the default)" : "",
                     audit::flags_of(setting));
  });
}

}  // namespace
}  // namespace tempo::apps

int main(int argc, char** argv) {
  tempo::apps::set_up_runtime(argv);
  CLI::App app{"Attacks what an untrusted worker sees of a Tempo training run, and reports what was recovered.",
               "tempo-audit"};
  app.require_subcommand(1);
  app.set_version_flag("--version", TEMPO_VERSION);
  std::string command_line = "tempo-audit";
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    command_line += word.find(' ') == std::string::npos ? " " + word : " '" + word + "'";
  }
  tempo::apps::add_run(app, command_line);
  tempo::apps::add_report(app);
  tempo::apps::add_settings(app);
  tempo::apps::add_detect(app);
  return tempo::apps::run_program(app, argc, argv, tempo::protect_process_memory);
}
