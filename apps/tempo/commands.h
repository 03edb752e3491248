/// The subcommands of `tempo`. Each adds itself to the parser and runs when chosen.
#pragma once

#include <CLI/CLI.hpp>

namespace tempo::apps {

void add_train(CLI::App& app);
void add_plan(CLI::App& app);
void add_eval(CLI::App& app);
void add_predict(CLI::App& app);
void add_export(CLI::App& app);
void add_keygen(CLI::App& app);
void add_verify_evidence(CLI::App& app);
void add_policy(CLI::App& app);

}  // namespace tempo::apps
