#include "audit/report/markdown.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "audit/report/finding_table.h"
#include "audit/report/text.h"
#include "audit/report/verdict.h"

namespace tempo::audit {
namespace {

/// Rows of cells that are escaped already.
class Table {
 public:
  explicit Table(const std::vector<std::string>& heads) {
    row(heads);
    text_ += '|';
    for (size_t i = 0; i < heads.size(); ++i) text_ += "---|";
    text_ += '\n';
  }
  void row(const std::vector<std::string>& cells) {
    text_ += '|';
    for (const std::string& cell : cells) text_ += fmt::format(" {} |", cell.empty() ? "-" : cell);
    text_ += '\n';
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::vector<std::string> escaped(const std::vector<std::string>& names, std::vector<std::string> first) {
  for (const std::string& name : names) first.push_back(escape_markdown(name));
  return first;
}

std::string verdict_section(const AuditResults& results, std::span<const Attack> attacks) {
  const Verdict said = verdict(results, attacks);
  std::string out = fmt::format("**{}**\n\n", escape_markdown(said.headline));
  for (const auto* lines : {&said.reasons, &said.remarks}) {
    for (const std::string& line : *lines) out += fmt::format("- {}\n", escape_markdown(line));
    if (!lines->empty()) out += '\n';
  }
  return out;
}

std::string victim_section(const AuditResults& results) {
  const VictimResult& victim = results.victim;
  return fmt::format(
      "## What was measured\n\n"
      "- Victim: {} on {}; {} and {}; {} of batch {}; test accuracy {}\n"
      "- Recorded: {} of {}\n"
      "- Made by: tempo {}, {}, on {}\n"
      "- Command: {}\n\n",
      escape_markdown(victim.model), escape_markdown(victim.data), count_of(victim.train_images, "training image"),
      count_of(victim.test_images, "test image"), count_of(victim.steps_trained, "step"),
      format_count(victim.batch_size), format_percent(victim.test_accuracy), count_of(victim.steps_recorded, "step"),
      count_of(static_cast<int64_t>(victim.layers.size()), "layer"), escape_markdown(results.version),
      escape_markdown(results.date), escape_markdown(results.machine), markdown_code(results.command));
}

std::string settings_section(const AuditResults& results) {
  std::string out = "## Settings and what they cost\n\n";
  if (results.settings.empty()) return out + "None.\n\n";
  Table table({"setting", "flags", "TEE CPU ms a sample", "blinding ms a sample", "kB a sample"});
  for (const SettingResult& setting : results.settings) {
    table.row({escape_markdown(setting.name) + (setting.is_default ? " (default)" : ""), markdown_code(setting.flags),
               format_compact(1e3 * setting.tee_cpu_seconds_per_sample),
               format_compact(1e3 * setting.blind_seconds_per_sample), format_compact(setting.bytes_per_sample / 1e3)});
  }
  return out + table.text() + "\n";
}

std::string cell_text(const FindingCell& cell) {
  if (cell.worst == nullptr) return "not run";
  if (!cell.worst->applicable) return "n/a";
  const std::string text = fmt::format("{} ({})", format_score(cell.worst->score), format_score(cell.worst->chance));
  return cell.worst->beats_chance ? "**" + text + "**" : text;
}

std::string findings_section(const std::string& title, FindingTable found) {
  const std::vector<std::string> not_run = take_rows_not_run(found);
  std::string out = fmt::format("## {}\n\n", title);
  const bool any = std::any_of(found.rows.begin(), found.rows.end(), [](const FindingRow& row) {
    return std::any_of(row.cells.begin(), row.cells.end(), [](const FindingCell& cell) { return cell.findings > 0; });
  });
  if (!any) return out + "No attack that was run has anything to work on here.\n\n";
  Table table(escaped(found.settings, {"no.", "attack", "what is recovered"}));
  for (const FindingRow& row : found.rows) {
    std::vector<std::string> cells = {fmt::format("{}", row.attack), escape_markdown(row.name),
                                      escape_markdown(row.target)};
    for (const FindingCell& cell : row.cells) cells.push_back(cell_text(cell));
    table.row(cells);
  }
  out += table.text() + "\n";
  if (!not_run.empty())
    out += fmt::format("Not run: {}.\n\n", escape_markdown(fmt::format("{}", fmt::join(not_run, ", "))));
  return out;
}

std::string steps_section(const AuditResults& results) {
  std::string out =
      "## Training steps under one key until an attack is expected to win\n\n"
      "Fewest over all attacks that pool steps, and both starts; beyond the recording it is an extrapolation.\n\n";
  const std::vector<std::string> layers = layer_names(results);
  if (layers.empty()) return out + "Not run.\n\n";
  Table table(escaped(layers, {"setting"}));
  for (const std::string& setting : setting_names(results)) {
    std::vector<std::string> cells = {escape_markdown(setting)};
    for (const std::string& layer : layers) {
      const StepsToWin steps = steps_to_win(results, setting, layer);
      cells.push_back(!steps.run ? "not run" : steps.steps ? format_compact(*steps.steps) : "no estimate");
    }
    table.row(cells);
  }
  return out + table.text() + "\n";
}

std::string pooling_section(const AuditResults& results) {
  if (results.pooling.empty()) return "";
  Table table({"setting", "layer", "chance", "score by pooled steps"});
  for (const PoolingCurve& curve : results.pooling) {
    std::string points;
    for (size_t i = 0; i < std::min(curve.steps.size(), curve.score.size()); ++i)
      points +=
          fmt::format("{}{}: {}", i == 0 ? "" : ", ", format_compact(curve.steps[i]), format_score(curve.score[i]));
    table.row({escape_markdown(curve.setting), escape_markdown(curve.layer), format_score(curve.chance), points});
  }
  return "## Scores of attacks that pool steps\n\n" + table.text() + "\n";
}

std::string surrogates_section(const AuditResults& results) {
  std::string out =
      "## Surrogate models\n\n"
      "A model built from what was recovered, after fine-tuning with a few labelled examples. Black box: nothing "
      "recovered, the lower bound. White box: every weight known, the upper bound.\n\n";
  if (results.surrogates.empty()) return out + why_no_surrogates(results) + "\n\n";
  Table table({"built from", "budget", "accuracy", "over black box", "fidelity", "attack transfer", "membership AUC"});
  for (const SurrogateResult& s : results.surrogates) {
    const auto black = std::find_if(results.surrogates.begin(), results.surrogates.end(), [&s](const auto& other) {
      return other.start_from == "black box" && other.budget == s.budget;
    });
    const bool bound = s.start_from == "black box";
    const std::string gain =
        bound || black == results.surrogates.end() ? "-" : format_points(100 * (s.accuracy - black->accuracy));
    table.row({escape_markdown(s.start_from), escape_markdown(s.budget), format_percent(s.accuracy), gain,
               format_percent(s.fidelity), format_percent(s.transfer), format_score(s.membership)});
  }
  return out + table.text() + "\n";
}

std::string information_section(const AuditResults& results) {
  std::string out = "## Information: for reporting only, not a pass mark\n\n";
  if (results.information.empty()) return out + "Not measured.\n\n";
  Table table({"setting", "layer", "left key bits", "inner key bits", "right key bits", "mutual information bits",
               "rows", "rows mixed", "output channels mixed"});
  for (const InformationResult& info : results.information) {
    table.row({escape_markdown(info.setting), escape_markdown(info.layer), format_compact(info.left_key_bits),
               format_compact(info.inner_key_bits), format_compact(info.right_key_bits),
               format_compact(info.mutual_information_bits), format_compact(info.rows), format_compact(info.rows_mixed),
               format_compact(info.channels_mixed)});
  }
  return out + table.text() + "\n";
}

std::string tampering_section(const AuditResults& results) {
  std::string out =
      "## Tampering\n\nA worker that adds an error of this size, relative to the norm of each result, at every "
      "step. Loss and accuracy are of runs that verify nothing (integrity=off).\n\n";
  if (results.tampering.empty()) return out + "Not run.\n";
  Table table({"relative error", "final loss", "test accuracy", "integrity=always"});
  for (const TamperingResult& tampering : results.tampering)
    table.row({format_compact(tampering.relative_error), format_score(tampering.final_loss),
               format_percent(tampering.test_accuracy), tampering.is_refused ? "refused" : "passes"});
  return out + table.text();
}

}  // namespace

std::string to_markdown(const AuditResults& results, std::span<const Attack> attacks) {
  return verdict_section(results, attacks) + victim_section(results) + settings_section(results) +
         "## How to read the tables of attacks\n\n"
         "`score (chance)`: the worst case over the recorded layers. 1.00 is full recovery, chance is what guessing "
         "gets. **Bold** beats chance: by more than five standard deviations of guessing and more than 0.02. `n/a`: "
         "the attack has nothing to work on in any layer. `not run`: not measured.\n\n" +
         findings_section("Attacks where the initial weights are secret", table_of_start(results, attacks, "secret")) +
         findings_section("Attacks where the initial weights are public", table_of_start(results, attacks, "public")) +
         findings_section("Layers that Tempo never offloads, blinded to show why",
                          table_of_counterfactuals(results, attacks)) +
         steps_section(results) + pooling_section(results) + surrogates_section(results) +
         information_section(results) + tampering_section(results);
}

}  // namespace tempo::audit
