/// The main table of a report, attacks by settings, as data: Markdown and HTML draw the same one.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "audit/attack.h"
#include "audit/results.h"

namespace tempo::audit {

/// 0 at chance, 1 at full recovery; the same figure as Finding::advantage.
double advantage(const FindingResult& finding);

/// Whether `a` is worse news than `b`: applicable before not, beating chance before not, then by advantage, then by
/// distance from chance (so that two scores at chance are still ordered).
bool worse(const FindingResult& a, const FindingResult& b);

/// Worst case over all findings of one attack and target under one setting; null if there are none ("not run").
/// If it is not applicable, none of them is.
struct FindingCell {
  const FindingResult* worst = nullptr;
  int findings = 0;  ///< how many it is the worst of
};

struct FindingRow {
  int attack = 0;
  std::string name;                ///< of the attack
  std::string target;              ///< empty if the attack was run nowhere
  std::vector<FindingCell> cells;  ///< one for every setting
};

/// Points into the results it was made from.
struct FindingTable {
  std::vector<std::string> settings;
  std::vector<FindingRow> rows;  ///< by attack, then in the order of the findings
};

/// Settings in their order, then any that only findings name: nothing that was measured is left out.
std::vector<std::string> setting_names(const AuditResults& results);

/// Layers in the victim's order, then any that only findings name.
std::vector<std::string> layer_names(const AuditResults& results);

/// Findings on layers that Tempo offloads. A row for every attack of the list and every target met under either start,
/// so that the tables of both starts have the same rows.
FindingTable table_of_start(const AuditResults& results, std::span<const Attack> attacks, const std::string& start);

/// Findings on layers that Tempo never offloads, whatever the start; only rows of attacks that had something to work
/// on.
FindingTable table_of_counterfactuals(const AuditResults& results, std::span<const Attack> attacks);

/// Takes the rows of attacks that were run nowhere out of the table; returns the attacks: "12 blind source separation".
std::vector<std::string> take_rows_not_run(FindingTable& table);

/// Fewest steps to win over all findings of a setting and an offloaded layer.
struct StepsToWin {
  bool run = false;             ///< some finding is there
  std::optional<double> steps;  ///< absent: no attack gave an estimate
};
StepsToWin steps_to_win(const AuditResults& results, const std::string& setting, const std::string& layer);

/// "blind source separation", or "attack 12" where the list lacks it.
std::string attack_name(std::span<const Attack> attacks, int number);

}  // namespace tempo::audit
