#include "attest/seen_collateral.h"

#include <fmt/format.h>

#include <algorithm>

#include "attest/crypto/json.h"
#include "base/byte_reader.h"
#include "base/file.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

}  // namespace

SeenCollateral SeenCollateral::load(const std::filesystem::path& path) {
  SeenCollateral seen;
  std::error_code error;
  if (std::filesystem::symlink_status(path, error).type() == std::filesystem::file_type::not_found) return seen;
  const std::string text = read_text_file(path, kMaxFileBytes);
  const Json json = parse_json_object(text, path.string());
  JsonFields top(json, path.string());
  if (const uint64_t version = top.number("version", UINT32_MAX); version != 1)
    throw InputError(fmt::format("{}: version {}, expected 1", path.string(), version));
  const Json& items = top.need("seen");
  const JsonFields check(items, top.name("seen"));
  for (const auto& [item, value] : items.items()) {
    JsonFields fields(value, top.name(quote_untrusted(item)));
    seen.items_[item] = {fields.number("number", UINT64_MAX), parse_utc(fields.text("issued"), fields.name("issued"))};
    fields.refuse_others();
  }
  top.refuse_others();
  return seen;
}

void SeenCollateral::save(const std::filesystem::path& path) const {
  Json seen = Json::object();
  for (const auto& [item, version] : items_)
    seen[item] = {{"number", version.number}, {"issued", to_text(version.issued)}};
  AtomicFile file(path, 0600);
  file.write(Json{{"version", 1}, {"seen", seen}}.dump(2) + "\n");
  file.commit();
}

void SeenCollateral::check(const std::string& item, const Version& version) const {
  const auto found = items_.find(item);
  if (found == items_.end()) return;
  if (version.number < found->second.number)
    throw AttestationError(fmt::format("{}: number {} is lower than {}, which was seen before", item, version.number,
                                       found->second.number));
  if (version.issued < found->second.issued)
    throw AttestationError(fmt::format("{}: issued {}, before {}, which was seen before", item, to_text(version.issued),
                                       to_text(found->second.issued)));
}

void SeenCollateral::remember(const std::string& item, const Version& version) {
  Version& kept = items_[item];
  kept.number = std::max(kept.number, version.number);
  kept.issued = std::max(kept.issued, version.issued);
}

}  // namespace tempo::attest
