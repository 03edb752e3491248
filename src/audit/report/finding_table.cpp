#include "audit/report/finding_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

namespace tempo::audit {
namespace {

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

FindingRow& row_of(FindingTable& table, const FindingResult& finding, std::span<const Attack> attacks) {
  for (FindingRow& row : table.rows)
    if (row.attack == finding.attack && row.target == finding.target) return row;
  return table.rows.emplace_back(FindingRow{finding.attack, attack_name(attacks, finding.attack), finding.target,
                                            std::vector<FindingCell>(table.settings.size())});
}

void add(FindingTable& table, FindingRow& row, const FindingResult& finding) {
  const auto at = std::find(table.settings.begin(), table.settings.end(), finding.setting);
  FindingCell& cell = row.cells[static_cast<size_t>(at - table.settings.begin())];
  ++cell.findings;
  if (cell.worst == nullptr || worse(finding, *cell.worst)) cell.worst = &finding;
}

void sort_rows(FindingTable& table) {
  std::stable_sort(table.rows.begin(), table.rows.end(),
                   [](const FindingRow& a, const FindingRow& b) { return a.attack < b.attack; });
}

}  // namespace

double advantage(const FindingResult& finding) {
  if (!finding.applicable || !(finding.score > finding.chance) || finding.chance >= 1) return 0;
  return std::min(1.0, (finding.score - finding.chance) / (1 - finding.chance));
}

bool worse(const FindingResult& a, const FindingResult& b) {
  const auto rank = [](const FindingResult& f) {
    return std::tuple(f.applicable, f.beats_chance, advantage(f), f.score - f.chance);
  };
  return rank(a) > rank(b);
}

std::vector<std::string> setting_names(const AuditResults& results) {
  std::vector<std::string> names;
  for (const SettingResult& setting : results.settings) add_once(names, setting.name);
  for (const FindingResult& finding : results.findings) add_once(names, finding.setting);
  return names;
}

std::vector<std::string> layer_names(const AuditResults& results) {
  std::vector<std::string> names = results.victim.layers;
  for (const FindingResult& finding : results.findings)
    if (!finding.counterfactual) add_once(names, finding.layer);
  return names;
}

FindingTable table_of_start(const AuditResults& results, std::span<const Attack> attacks, const std::string& start) {
  FindingTable table;
  table.settings = setting_names(results);
  std::set<int> met;
  for (const FindingResult& finding : results.findings) {
    if (finding.counterfactual) continue;
    met.insert(finding.attack);
    FindingRow& row = row_of(table, finding, attacks);
    if (finding.start == start) add(table, row, finding);
  }
  for (const Attack& attack : attacks)
    if (!met.contains(attack.number))
      table.rows.push_back({attack.number, attack.name, "", std::vector<FindingCell>(table.settings.size())});
  sort_rows(table);
  return table;
}

FindingTable table_of_counterfactuals(const AuditResults& results, std::span<const Attack> attacks) {
  FindingTable table;
  table.settings = setting_names(results);
  for (const FindingResult& finding : results.findings)
    if (finding.counterfactual && finding.applicable) add(table, row_of(table, finding, attacks), finding);
  sort_rows(table);
  return table;
}

std::vector<std::string> take_rows_not_run(FindingTable& table) {
  std::vector<std::string> names;
  for (const FindingRow& row : table.rows)
    if (row.target.empty()) names.push_back(fmt::format("{} {}", row.attack, row.name));
  std::erase_if(table.rows, [](const FindingRow& row) { return row.target.empty(); });
  return names;
}

StepsToWin steps_to_win(const AuditResults& results, const std::string& setting, const std::string& layer) {
  StepsToWin fewest;
  for (const FindingResult& finding : results.findings) {
    if (finding.counterfactual || finding.setting != setting || finding.layer != layer) continue;
    fewest.run = true;
    const std::optional<double>& steps = finding.steps_to_win;
    if (steps && std::isfinite(*steps)) fewest.steps = std::min(*steps, fewest.steps.value_or(*steps));
  }
  return fewest;
}

std::string attack_name(std::span<const Attack> attacks, int number) {
  for (const Attack& attack : attacks)
    if (attack.number == number) return attack.name;
  return fmt::format("attack {}", number);
}

}  // namespace tempo::audit
