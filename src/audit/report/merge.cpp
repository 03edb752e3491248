#include "audit/report/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "tempo/error.h"

namespace tempo::audit {
namespace {

template <typename Item>
void move_all(std::vector<Item>& into, std::vector<Item>& from) {
  into.insert(into.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

void append(AuditResults& into, AuditResults more, const std::string& source) {
  if (more.victim.model != into.victim.model || more.victim.data != into.victim.data)
    throw InputError(fmt::format("{}: audits {} on {}, expected {} on {} as in the first file", source,
                                 more.victim.model, more.victim.data, into.victim.model, into.victim.data));
  for (const SettingResult& setting : more.settings)
    if (std::any_of(into.settings.begin(), into.settings.end(), [&](const auto& s) { return s.name == setting.name; }))
      throw InputError(
          fmt::format("{}: has the setting \"{}\" again, expected every setting once", source, setting.name));
  move_all(into.settings, more.settings);
  move_all(into.findings, more.findings);
  move_all(into.pooling, more.pooling);
  move_all(into.information, more.information);
  const std::vector<SurrogateResult> before = into.surrogates;
  for (const SurrogateResult& surrogate : more.surrogates)
    if (std::none_of(before.begin(), before.end(), [&](const auto& s) { return s.start_from == surrogate.start_from; }))
      into.surrogates.push_back(surrogate);
  if (into.tampering.empty()) into.tampering = std::move(more.tampering);
  into.command += " ; " + more.command;
}

}  // namespace tempo::audit
