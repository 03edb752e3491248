#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

#include "audit/report/html_parts.h"
#include "audit/report/text.h"

namespace tempo::audit::html {
namespace {

/// What pointing at a cell shows.
std::string cell_title(const FindingRow& row, const std::string& setting, const FindingCell& cell) {
  const FindingResult& worst = *cell.worst;
  std::string title =
      fmt::format("{} {}, {}; {}; start {}. Worst of {} in layer {}: ", row.attack, row.name, row.target, setting,
                  worst.start, count_of(cell.findings, "measurement"), worst.layer);
  if (worst.applicable)
    title += fmt::format("{}, {} (chance {}, noise {}).", worst.measure, format_score(worst.score),
                         format_score(worst.chance), format_score(worst.noise));
  else
    title += "nothing to work on.";
  if (!worst.note.empty()) title += " " + worst.note;
  return escape_html(title);
}

std::string heat_cell(const FindingRow& row, const std::string& setting, const FindingCell& cell) {
  if (cell.worst == nullptr) return "<td class=\"none\">not run</td>";
  const FindingResult& worst = *cell.worst;
  const std::string title = cell_title(row, setting, cell);
  if (!worst.applicable) return fmt::format("<td class=\"none\" title=\"{}\">n/a</td>", title);
  // Transparent orange: dark and light pages both keep their contrast.
  const double opacity = advantage(worst) <= 0 ? 0 : 0.04 + 0.71 * advantage(worst);
  return fmt::format(
      "<td style=\"background:rgba(213,94,0,{:.2f})\" title=\"{}\"><span{}>{}</span><small>chance {}</small></td>",
      opacity, title, worst.beats_chance ? " class=\"beaten\"" : "", format_score(worst.score),
      format_score(worst.chance));
}

const SurrogateResult* black_box_of(const AuditResults& results, const SurrogateResult& surrogate) {
  for (const SurrogateResult& other : results.surrogates)
    if (other.start_from == "black box" && other.budget == surrogate.budget) return &other;
  return nullptr;
}

std::string nothing(std::string_view what) { return fmt::format("<p>{}</p>\n", what); }

}  // namespace

std::string table(const std::vector<std::string>& heads, const std::vector<std::vector<std::string>>& rows,
                  size_t names) {
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& head : heads) out += fmt::format("<th scope=\"col\">{}</th>", head);
  out += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : rows) {
    out += "<tr>";
    for (size_t i = 0; i < row.size(); ++i)
      out += fmt::format("<td{}>{}</td>", i < names ? "" : " class=\"number\"", row[i].empty() ? "-" : row[i]);
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string settings_table(const AuditResults& results) {
  if (results.settings.empty()) return nothing("None.");
  std::vector<std::vector<std::string>> rows;
  for (const SettingResult& setting : results.settings) {
    rows.push_back({escape_html(setting.name) + (setting.is_default ? " <b>(default)</b>" : ""),
                    fmt::format("<code>{}</code>", escape_html(setting.flags)),
                    format_compact(1e3 * setting.tee_cpu_seconds_per_sample),
                    format_compact(1e3 * setting.blind_seconds_per_sample),
                    format_compact(setting.bytes_per_sample / 1e3)});
  }
  return table({"setting", "flags", "TEE CPU ms a sample", "blinding ms a sample", "kB a sample"}, rows, 2);
}

std::string heat_map(FindingTable found, const std::string& is_default) {
  const std::vector<std::string> not_run = take_rows_not_run(found);
  const bool any = std::any_of(found.rows.begin(), found.rows.end(), [](const FindingRow& row) {
    return std::any_of(row.cells.begin(), row.cells.end(), [](const FindingCell& cell) { return cell.findings > 0; });
  });
  if (!any) return nothing("No attack that was run has anything to work on here.");
  std::string out = "<div class=\"scroll\"><table class=\"heat\"><thead><tr><th scope=\"col\">attack</th>";
  for (const std::string& setting : found.settings)
    out +=
        fmt::format("<th scope=\"col\">{}{}</th>", escape_html(setting), setting == is_default ? "<br>(default)" : "");
  out += "</tr></thead><tbody>\n";
  for (const FindingRow& row : found.rows) {
    out += fmt::format("<tr><th scope=\"row\">{} {}<br><span class=\"soft\">{}</span></th>", row.attack,
                       escape_html(row.name), escape_html(row.target));
    for (size_t i = 0; i < row.cells.size(); ++i) out += heat_cell(row, found.settings[i], row.cells[i]);
    out += "</tr>\n";
  }
  out += "</tbody></table></div>\n";
  if (!not_run.empty())
    out += nothing(fmt::format("Not run: {}.", escape_html(fmt::format("{}", fmt::join(not_run, ", ")))));
  return out;
}

std::string steps_table(const AuditResults& results) {
  const std::vector<std::string> layers = layer_names(results);
  if (layers.empty()) return nothing("Not run.");
  std::vector<std::string> heads = {"setting"};
  std::transform(layers.begin(), layers.end(), std::back_inserter(heads), [](const auto& l) { return escape_html(l); });
  std::vector<std::vector<std::string>> rows;
  for (const std::string& setting : setting_names(results)) {
    std::vector<std::string>& row = rows.emplace_back(1, escape_html(setting));
    for (const std::string& layer : layers) {
      const StepsToWin steps = steps_to_win(results, setting, layer);
      row.push_back(!steps.run ? "not run" : steps.steps ? format_compact(*steps.steps) : "no estimate");
    }
  }
  return table(heads, rows);
}

std::string surrogates_table(const AuditResults& results) {
  if (results.surrogates.empty()) return nothing(why_no_surrogates(results));
  std::vector<std::vector<std::string>> rows;
  for (const SurrogateResult& s : results.surrogates) {
    const SurrogateResult* black_box = black_box_of(results, s);
    const bool itself = s.start_from == "black box";
    const std::string gain =
        itself || black_box == nullptr ? "-" : format_points(100 * (s.accuracy - black_box->accuracy));
    rows.push_back({escape_html(s.start_from), escape_html(s.budget), format_percent(s.accuracy), gain,
                    format_percent(s.fidelity), format_percent(s.transfer), format_score(s.membership)});
  }
  return table({"built from", "budget", "accuracy", "over black box", "fidelity", "attack transfer", "membership AUC"},
               rows, 2);
}

std::string information_table(const AuditResults& results) {
  if (results.information.empty()) return nothing("Not measured.");
  std::vector<std::vector<std::string>> rows;
  for (const InformationResult& info : results.information) {
    rows.push_back({escape_html(info.setting), escape_html(info.layer), format_compact(info.left_key_bits),
                    format_compact(info.inner_key_bits), format_compact(info.right_key_bits),
                    format_compact(info.mutual_information_bits), format_compact(info.rows),
                    format_compact(info.rows_mixed), format_compact(info.channels_mixed)});
  }
  return table({"setting", "layer", "left key bits", "inner key bits", "right key bits", "mutual information bits",
                "rows", "rows mixed", "output channels mixed"},
               rows, 2);
}

std::string tampering_table(const AuditResults& results) {
  if (results.tampering.empty()) return "";
  std::vector<std::vector<std::string>> rows;
  for (const TamperingResult& tampering : results.tampering)
    rows.push_back({format_compact(tampering.relative_error), format_score(tampering.final_loss),
                    format_percent(tampering.test_accuracy), tampering.is_refused ? "refused" : "passes"});
  return table({"relative error", "final loss", "test accuracy", "integrity=always"}, rows, 0);
}

std::string every_finding(const AuditResults& results, std::span<const Attack> attacks) {
  if (results.findings.empty()) return nothing("None.");
  std::vector<std::vector<std::string>> rows;
  for (const FindingResult& f : results.findings) {
    const auto figure = [&f](double value) { return f.applicable ? format_score(value) : std::string("n/a"); };
    const std::string score = figure(f.score);
    rows.push_back({escape_html(f.setting), escape_html(f.start),
                    escape_html(f.layer) + (f.counterfactual ? " (never offloaded)" : ""),
                    fmt::format("{} {}", f.attack, escape_html(attack_name(attacks, f.attack))), escape_html(f.target),
                    escape_html(f.measure), escape_html(f.note),
                    f.beats_chance ? fmt::format("<span class=\"beaten\">{}</span>", score) : score, figure(f.chance),
                    figure(f.noise), f.steps_to_win ? format_compact(*f.steps_to_win) : "-",
                    format_compact(f.seconds)});
  }
  return table({"setting", "start", "layer", "attack", "what is recovered", "measure", "note", "score", "chance",
                "noise", "steps to win", "seconds"},
               rows, 7);
}

}  // namespace tempo::audit::html
