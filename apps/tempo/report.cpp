// tempo report: what runs left in their folders, as one HTML page.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "base/path.h"
#include "base/text.h"
#include "commands.h"
#include "observe/standard_streams.h"
#include "page/document.h"
#include "page/run_history.h"
#include "tempo/error.h"
#include "train/config.h"
#include "train/run_view.h"

namespace tempo::apps {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostRuns = 8;  // as many as there are colours
constexpr size_t kMaxSummaryBytes = 1 << 20;

struct ReportFlags {
  std::vector<std::string> runs;
  std::string out;
};

/// summary.json as one line, or "": the run has none.
std::string summary_of(const fs::path& file) {
  if (!is_there(file)) return "";
  const std::string text = read_text_file(file, kMaxSummaryBytes);
  const auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  if (find_non_text(text) || !json.is_object() || (json.contains("workers") && !json["workers"].is_string()))
    throw InputError(fmt::format("{}: got no JSON object, expected the totals of a run", file.string()));
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

/// Settings, and what they hide. What cannot be read is told on the page: a run of another version has other settings.
/// @param summary of the run, or "": the settings of a service's job do not say who its workers are.
page::RunView settings_of(const fs::path& run, const std::string& summary) {
  page::RunView view;
  const fs::path file = run / "config.toml";
  if (!is_there(file)) {
    view.notes.push_back("There is no config.toml, so this page has no settings, and does not say what they hide.");
    return view;
  }
  try {
    RunConfig config;
    train::Settings settings = train::read_settings(file);
    const bool has_workers = settings.contains("workers") || !summary.empty();
    if (!settings.contains("workers") && !summary.empty())
      settings["workers"] = nlohmann::ordered_json::parse(summary).value("workers", config.workers);
    train::apply_settings(config, settings, file.string() + ": ");
    train::resolve(config);
    view = train::view_of(config);
    if (has_workers) return view;
    view.statements.clear();
    view.notes.push_back(
        "config.toml does not say who the workers were, so this page does not say what was hidden from them.");
  } catch (const InputError& error) {
    view.notes.push_back(
        fmt::format("Settings are missing, and what they hide: {}. Another version of Tempo may have written the file.",
                    error.what()));
  }
  return view;
}

page::RunView read_run(const fs::path& run) {
  check_text(run.string(), "report");
  if (!is_there(run)) throw InputError(fmt::format("{}: is not there, expected the folder of a run", run.string()));
  if (!fs::is_directory(run)) throw InputError(fmt::format("{}: is no folder, expected that of a run", run.string()));
  bool is_torn = false;
  const page::RunHistory history = page::read_metrics(run / "metrics.jsonl", is_torn);
  const std::string summary = summary_of(run / "summary.json");
  page::RunView view = settings_of(run, summary);
  view.name = run.string();
  view.history = history.to_json();
  view.summary = summary;
  if (view.summary.empty())
    view.notes.push_back("There is no summary.json: the run goes on still, or was ended before it could write one.");
  if (is_torn) view.notes.push_back("The last line of metrics.jsonl is not whole, and is left out.");
  return view;
}

void report(const ReportFlags& flags) {
  if (flags.runs.size() > kMostRuns)
    throw InputError(fmt::format("report: got {} runs, expected at most {} on a page", flags.runs.size(), kMostRuns));
  std::vector<page::RunView> views;
  std::set<std::string> names;
  for (const std::string& run : flags.runs) {
    views.push_back(read_run(run));
    if (!names.insert(views.back().name).second)
      throw InputError(fmt::format("report: got {} twice, expected each run once", run));
  }
  const fs::path out = flags.out.empty() ? fs::path(flags.runs.front()) / "report.html" : fs::path(flags.out);
  const std::string title =
      views.size() == 1 ? fmt::format("Run {}", views.front().name) : fmt::format("{} runs side by side", views.size());
  AtomicFile file(out);
  file.write(page::run_document(title, views, false).html);
  file.commit();
  const std::string wrote = fmt::format("wrote {}\n", out.string());
  if (is_standard_output(out))
    observe::note_text(wrote);
  else
    observe::print_text(wrote);
}

}  // namespace

void add_report(CLI::App& app) {
  auto* command = app.add_subcommand("report", "Write one HTML page about a run, or about several side by side");
  auto flags = std::make_shared<ReportFlags>();
  command->add_option("runs", flags->runs, "run directories, at most 8")->required()->type_name("RUN");
  command->add_option("--out", flags->out, "page to write; default: report.html in the first run's folder")
      ->type_name("FILE");
  command->callback([flags] { report(*flags); });
}

}  // namespace tempo::apps
