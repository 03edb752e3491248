#include "audit/report/verdict.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "audit/report/finding_table.h"
#include "audit/report/text.h"

namespace tempo::audit {
namespace {

/// The cells of one setting in a table of findings.
struct Column {
  std::vector<const FindingResult*> beaten;        ///< worst first
  std::vector<const FindingResult*> upper_bounds;  ///< beaten by attackers who were handed plain values
  std::set<int> scored, idle, beating;  ///< numbers of attacks with a score; with nothing to work on; above chance
  std::vector<std::string> not_run;     ///< "7 zero pattern"
  int findings = 0;
};

Column column_of(const FindingTable& table, const std::string& setting) {
  Column column;
  const auto at = std::find(table.settings.begin(), table.settings.end(), setting);
  if (at == table.settings.end()) return column;
  const auto index = static_cast<size_t>(at - table.settings.begin());
  for (const FindingRow& row : table.rows) {
    const FindingCell& cell = row.cells[index];
    column.findings += cell.findings;
    if (cell.worst == nullptr) continue;
    (cell.worst->applicable ? column.scored : column.idle).insert(row.attack);
    if (!cell.worst->beats_chance) continue;
    if (cell.worst->given_truth) {
      column.upper_bounds.push_back(cell.worst);
      continue;
    }
    column.beating.insert(row.attack);
    column.beaten.push_back(cell.worst);
  }
  for (const int number : column.scored) column.idle.erase(number);
  std::string last;
  for (const FindingRow& row : table.rows) {
    const std::string name = fmt::format("{} {}", row.attack, row.name);
    if (column.scored.contains(row.attack) || column.idle.contains(row.attack) || name == last) continue;
    column.not_run.push_back(last = name);
  }
  std::stable_sort(column.beaten.begin(), column.beaten.end(),
                   [](const FindingResult* a, const FindingResult* b) { return worse(*a, *b); });
  return column;
}

const SurrogateResult* find(const AuditResults& results, const std::string& start_from, const std::string& budget) {
  for (const SurrogateResult& surrogate : results.surrogates)
    if (surrogate.start_from == start_from && surrogate.budget == budget) return &surrogate;
  return nullptr;
}

std::string describe(const FindingResult& finding, std::span<const Attack> attacks) {
  return fmt::format("Attack {} ({}) on {}, {}: {} where guessing gets {} (+{}; {})", finding.attack,
                     attack_name(attacks, finding.attack), finding.layer, finding.target, format_score(finding.score),
                     format_score(finding.chance), format_score(finding.score - finding.chance), finding.measure);
}

std::string describe(const SurrogateGain& gain) {
  std::string text = fmt::format("Surrogate model with {}: {} accuracy against {} for black box ({})",
                                 gain.surrogate->budget, format_percent(gain.surrogate->accuracy),
                                 format_percent(gain.black_box->accuracy), format_points(gain.points));
  if (gain.white_box != nullptr)
    text += fmt::format("; with every weight it is {}", format_percent(gain.white_box->accuracy));
  return text;
}

bool counts(const std::optional<SurrogateGain>& gain) {
  return gain && gain->points > kSurrogateTolerancePoints + 1e-9;
}

std::string headline_not_at_chance(const std::string& setting, const Column& column,
                                   const std::optional<SurrogateGain>& gain) {
  std::string text = fmt::format("NOT at chance: under the default setting \"{}\" ", setting);
  if (column.beaten.empty()) {
    text += "no attack beats guessing by itself";
  } else {
    text += fmt::format("{} of the {} that gave a score {} guessing", column.beating.size(),
                        count_of(static_cast<int64_t>(column.scored.size()), "attack"),
                        column.beating.size() == 1 ? "beats" : "beat");
  }
  if (counts(gain))
    return text +
           fmt::format(", {} a surrogate model built from what they recover gains {} of accuracy over black box.",
                       column.beaten.empty() ? "but" : "and", format_points(gain->points));
  if (gain)
    return text + fmt::format("; a surrogate model gains nothing that counts ({}).", format_points(gain->points));
  return text + "; no surrogate model was measured.";
}

std::string headline_at_chance(const std::string& setting, const Column& column,
                               const std::optional<SurrogateGain>& gain, bool complete) {
  std::string text = fmt::format("{}: under the default setting \"{}\" none of the {} that gave a score beats guessing",
                                 complete ? "At chance" : "At chance as far as measured", setting,
                                 count_of(static_cast<int64_t>(column.scored.size()), "attack"));
  if (!gain) return text + "; no surrogate model was measured.";
  return text + fmt::format(
                    ", and a surrogate model gains at most {} of accuracy over black box (up to {:.0f} count as "
                    "none).",
                    format_points(gain->points), kSurrogateTolerancePoints);
}

/// Whether attack 11 tells the keys of successive steps apart: new keys then bound nothing.
bool links_keys(const AuditResults& results, const std::string& setting) {
  constexpr int kKeyLinking = 11;
  return std::any_of(results.findings.begin(), results.findings.end(), [&](const FindingResult& finding) {
    return finding.setting == setting && finding.attack == kKeyLinking && finding.beats_chance &&
           !finding.counterfactual;
  });
}

void remark_on_steps(const AuditResults& results, const std::string& setting, Verdict& verdict) {
  std::optional<double> fewest;
  std::string where;
  for (const FindingResult& finding : results.findings) {
    if (finding.setting != setting || finding.start != "secret" || finding.counterfactual || !finding.steps_to_win)
      continue;
    if (!std::isfinite(*finding.steps_to_win) || (fewest && *fewest <= *finding.steps_to_win)) continue;
    fewest = finding.steps_to_win;
    where = fmt::format("attack {} on {}", finding.attack, finding.layer);
  }
  if (!fewest) return;
  const char* const advice =
      links_keys(results, setting)
          ? "New keys do not prevent it: attack 11 links them, so these steps may be any of a training."
          : "Keys have to be changed well before.";
  verdict.remarks.push_back(fmt::format("After about {} training steps under one key {} is expected to win. {}",
                                        format_compact(*fewest), where, advice));
}

void remark_on_public_start(const AuditResults& results, std::span<const Attack> attacks, const std::string& setting,
                            Verdict& verdict) {
  const Column column = column_of(table_of_start(results, attacks, "public"), setting);
  if (column.findings == 0) {
    verdict.remarks.emplace_back("Not measured: an attacker who knows the initial weights.");
  } else if (!column.beaten.empty()) {
    verdict.remarks.push_back(fmt::format(
        "This holds for secret initial weights. Where they are public, {} of the {} that gave a score {} guessing.",
        column.beating.size(), count_of(static_cast<int64_t>(column.scored.size()), "attack"),
        column.beating.size() == 1 ? "beats" : "beat"));
  }
}

Verdict none(std::string why) {
  Verdict verdict;
  verdict.headline = "No verdict: " + std::move(why);
  return verdict;
}

}  // namespace

std::optional<SurrogateGain> largest_gain(const AuditResults& results, const std::string& setting) {
  std::optional<SurrogateGain> largest;
  for (const SurrogateResult& surrogate : results.surrogates) {
    if (surrogate.start_from != setting) continue;
    const SurrogateResult* black_box = find(results, "black box", surrogate.budget);
    if (black_box == nullptr) continue;
    const double points = 100 * (surrogate.accuracy - black_box->accuracy);
    if (std::isfinite(points) && (!largest || points > largest->points))
      largest = SurrogateGain{&surrogate, black_box, find(results, "white box", surrogate.budget), points};
  }
  return largest;
}

Verdict verdict(const AuditResults& results, std::span<const Attack> attacks) {
  const auto setting = std::find_if(results.settings.begin(), results.settings.end(),
                                    [](const SettingResult& s) { return s.is_default; });
  if (setting == results.settings.end()) return none("no setting is marked as the default.");
  const Column column = column_of(table_of_start(results, attacks, "secret"), setting->name);
  const std::optional<SurrogateGain> gain = largest_gain(results, setting->name);
  const bool leaks = !column.beaten.empty() || counts(gain);
  if (column.scored.empty() && !leaks)
    return none(fmt::format("no attack gave a score under the default setting \"{}\".", setting->name));

  Verdict verdict;
  for (const FindingResult* finding : column.beaten) verdict.reasons.push_back(describe(*finding, attacks));
  if (gain) (counts(gain) ? verdict.reasons : verdict.remarks).push_back(describe(*gain));
  if (leaks) {
    verdict.kind = Verdict::Kind::kNotAtChance;
    verdict.headline = headline_not_at_chance(setting->name, column, gain);
  } else {
    const bool complete = column.not_run.empty() && gain.has_value();
    verdict.kind = complete ? Verdict::Kind::kAtChance : Verdict::Kind::kIncomplete;
    verdict.headline = headline_at_chance(setting->name, column, gain, complete);
  }
  if (!column.not_run.empty())
    verdict.remarks.push_back(fmt::format("Not run under this setting: {}.", fmt::join(column.not_run, ", ")));
  if (!column.idle.empty())
    verdict.remarks.push_back(
        fmt::format("Attacks that found nothing to work on under this setting: {}.", fmt::join(column.idle, ", ")));
  for (const FindingResult* finding : column.upper_bounds)
    verdict.remarks.push_back(
        "Upper bound, for an attacker who was handed plain values that it would have to get first: " +
        describe(*finding, attacks));
  remark_on_steps(results, setting->name, verdict);
  remark_on_public_start(results, attacks, setting->name, verdict);
  return verdict;
}

}  // namespace tempo::audit
