#include "attest/intel/tcb_info.h"

#include <fmt/format.h>

#include <utility>

#include "attest/crypto/json.h"
#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr size_t kMaxLevels = 128, kMaxModules = 32, kMaxAdvisories = 256;

constexpr std::array<std::pair<TcbStatus, std::string_view>, 7> kStatuses = {
    {{TcbStatus::kUpToDate, "UpToDate"},
     {TcbStatus::kSwHardeningNeeded, "SWHardeningNeeded"},
     {TcbStatus::kConfigurationNeeded, "ConfigurationNeeded"},
     {TcbStatus::kConfigurationAndSwHardeningNeeded, "ConfigurationAndSWHardeningNeeded"},
     {TcbStatus::kOutOfDate, "OutOfDate"},
     {TcbStatus::kOutOfDateConfigurationNeeded, "OutOfDateConfigurationNeeded"},
     {TcbStatus::kRevoked, "Revoked"}}};

uint64_t hex_number(JsonFields& fields, const char* field, size_t bytes) {
  uint64_t value = 0;
  for (const std::byte byte : from_hex(fields.text(field), bytes, fields.name(field)))
    value = (value << 8U) | std::to_integer<uint64_t>(byte);
  return value;
}

/// Attributes are written byte by byte as in memory, so little-endian.
uint64_t hex_attributes(JsonFields& fields, const char* field) {
  const Bytes bytes = from_hex(fields.text(field), 8, fields.name(field));
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) value |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  return value;
}

void read_head(JsonFields& fields, StatementHead& head, uint64_t version) {
  head.id = fields.text("id");
  if (const uint64_t found = fields.number("version", UINT32_MAX); found != version)
    throw InputError(fmt::format("{}: version {}, expected {}", fields.what(), found, version));
  head.issued = parse_utc(fields.text("issueDate"), fields.name("issueDate"));
  head.next = parse_utc(fields.text("nextUpdate"), fields.name("nextUpdate"));
  head.evaluation_number = static_cast<uint32_t>(fields.number("tcbEvaluationDataNumber", UINT32_MAX));
}

template <typename Level>
void read_status(JsonFields& fields, Level& level) {
  const std::string name = fields.text("tcbStatus");
  const auto status = tcb_status_of_name(name);
  if (!status) throw InputError(fmt::format("{}: unknown TCB status {}", fields.what(), quote_untrusted(name)));
  level.status = *status;
  level.date = parse_utc(fields.text("tcbDate"), fields.name("tcbDate"));
  if (fields.find("advisoryIDs") == nullptr) return;
  for (const Json& item : fields.array("advisoryIDs", kMaxAdvisories)) {
    if (!item.is_string() || item.get_ref<const std::string&>().size() > 64)
      throw InputError(fmt::format("{}: expected names", fields.name("advisoryIDs")));
    level.advisories.insert(item.get<std::string>());
  }
}

std::array<uint8_t, 16> read_components(JsonFields& fields, const char* field) {
  const Json& list = fields.array(field, 16);
  std::array<uint8_t, 16> components{};
  if (list.size() != components.size())
    throw InputError(fmt::format("{}: {} components, expected 16", fields.name(field), list.size()));
  for (size_t i = 0; i < components.size(); ++i) {
    JsonFields component(list[i], fields.name(field));
    components[i] = static_cast<uint8_t>(component.number("svn", UINT8_MAX));
  }
  return components;
}

TcbLevel read_level(const Json& json, bool is_tdx) {
  JsonFields fields(json, "TCB info: level");
  JsonFields tcb(fields.need("tcb"), "TCB info: level: tcb");
  TcbLevel level;
  level.sgx_components = read_components(tcb, "sgxtcbcomponents");
  level.pce_svn = static_cast<uint16_t>(tcb.number("pcesvn", UINT16_MAX));
  if (is_tdx) level.tdx_components = read_components(tcb, "tdxtcbcomponents");
  read_status(fields, level);
  return level;
}

std::vector<SvnLevel> read_svn_levels(JsonFields& fields) {
  std::vector<SvnLevel> levels;
  for (const Json& json : fields.array("tcbLevels", kMaxLevels)) {
    JsonFields entry(json, fields.name("tcbLevels"));
    JsonFields tcb(entry.need("tcb"), entry.name("tcb"));
    SvnLevel& level = levels.emplace_back();
    level.svn = static_cast<uint16_t>(tcb.number("isvsvn", UINT16_MAX));
    read_status(entry, level);
  }
  return levels;
}

TdxModule read_module(const Json& json, bool has_levels) {
  JsonFields fields(json, "TCB info: TDX module");
  TdxModule module;
  module.mr_signer = digest_from_hex<48>(fields.text("mrsigner"), fields.name("mrsigner"));
  module.attributes = hex_attributes(fields, "attributes");
  module.attributes_mask = hex_attributes(fields, "attributesMask");
  if (!has_levels) return module;
  module.id = fields.text("id");
  module.levels = read_svn_levels(fields);
  return module;
}

}  // namespace

std::string_view name_of(TcbStatus status) {
  for (const auto& [value, name] : kStatuses)
    if (value == status) return name;
  return "unknown";
}

std::optional<TcbStatus> tcb_status_of_name(std::string_view name) {
  for (const auto& [value, known] : kStatuses)
    if (known == name) return value;
  return std::nullopt;
}

TcbInfo parse_tcb_info(std::string_view text) {
  const Json json = parse_json_object(text, "TCB info");
  JsonFields fields(json, "TCB info");
  TcbInfo info;
  read_head(fields, info, 3);
  const bool is_tdx = info.id == "TDX";
  if (!is_tdx && info.id != "SGX")
    throw InputError(fmt::format("TCB info: of {}, expected SGX or TDX", quote_untrusted(info.id)));
  info.fmspc = digest_from_hex<6>(fields.text("fmspc"), fields.name("fmspc"));
  info.pce_id = digest_from_hex<2>(fields.text("pceId"), fields.name("pceId"));
  if (const uint64_t type = fields.number("tcbType", UINT32_MAX); type != 0)
    throw InputError(fmt::format("TCB info: TCB of type {}, expected 0", type));
  if (is_tdx) info.module = read_module(fields.need("tdxModule"), false);
  if (is_tdx && fields.find("tdxModuleIdentities") != nullptr)
    for (const Json& module : fields.array("tdxModuleIdentities", kMaxModules))
      info.modules.push_back(read_module(module, true));
  for (const Json& level : fields.array("tcbLevels", kMaxLevels)) info.levels.push_back(read_level(level, is_tdx));
  return info;
}

QeIdentity parse_qe_identity(std::string_view text) {
  const Json json = parse_json_object(text, "QE identity");
  JsonFields fields(json, "QE identity");
  QeIdentity identity;
  read_head(fields, identity, 2);
  if (identity.id != "QE" && identity.id != "TD_QE")
    throw InputError(fmt::format("QE identity: of {}, expected QE or TD_QE", quote_untrusted(identity.id)));
  identity.misc_select = static_cast<uint32_t>(hex_number(fields, "miscselect", 4));
  identity.misc_select_mask = static_cast<uint32_t>(hex_number(fields, "miscselectMask", 4));
  identity.attributes = digest_from_hex<16>(fields.text("attributes"), fields.name("attributes"));
  identity.attributes_mask = digest_from_hex<16>(fields.text("attributesMask"), fields.name("attributesMask"));
  identity.mrsigner = digest_from_hex<32>(fields.text("mrsigner"), fields.name("mrsigner"));
  identity.product_id = static_cast<uint16_t>(fields.number("isvprodid", UINT16_MAX));
  identity.levels = read_svn_levels(fields);
  return identity;
}

}  // namespace tempo::attest
