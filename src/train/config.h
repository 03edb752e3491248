/// RunConfig as text: one table serves the command line, the TOML file and the resolved config.toml of a run.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tempo/run.h"

namespace tempo::train {

/// One setting by its name, e.g. "batch-size".
struct Field {
  std::string name;
  std::string help;
  bool is_switch = false;                                   ///< may stand alone on the command line
  bool is_text = false;                                     ///< always quoted in TOML
  std::function<void(RunConfig&, const std::string&)> set;  ///< @throws InputError naming the field
  std::function<std::string(const RunConfig&)> get;         ///< "" if unset
};
const std::vector<Field>& fields();

/// Settings as given, by field name.
using Settings = std::map<std::string, std::string>;

/// Reads TOML text of top-level keys; `source` names it in messages.
Settings parse_settings(const std::string& toml, const std::string& source);
/// Reads a TOML file of top-level keys. @throws InputError with file and line for bad TOML, unknown keys, tables.
Settings read_settings(const std::filesystem::path& file);
/// @throws InputError for a bad value. `origin` starts the message: "--lr", "a.toml: lr".
void apply_settings(RunConfig& config, const Settings& settings, const std::string& origin);
/// One line a setting; those that are unset are left out. Reading it gives the same settings.
std::string to_toml(const RunConfig& config);
/// The line of one setting, with its end; "" if it is unset.
std::string toml_line(const Field& field, const RunConfig& config);

/// Checks everything that can be checked without data or model, and fills in what depends on other settings
/// (weights, tee-threads). @throws InputError
void resolve(RunConfig& config);

/// Threads of the TEE: as set, or all cores.
int tee_threads(const RunConfig& config);

/// The settings that determine the operands of a step, as text. Two runs may share blinding keys only if these are
/// equal: then a step that is done twice, after a crash, sends the same operands twice. Under other settings it would
/// blind other operands with the same keys.
std::string operand_settings(const RunConfig& config);

/// The names of the enumerations, as on the command line.
std::string to_string(Coefficients value);
std::string to_string(Reuse value);
std::string to_string(WeightPlacement value);
std::string to_string(WirePrecision value);
std::string to_string(Optimizer value);
/// One line for messages and tests.
std::string describe(const BlindingOptions& options);

}  // namespace tempo::train
