/// The subcommands of `tempo`. Each adds itself to the parser and runs when chosen.
#pragma once

#include <CLI/CLI.hpp>

namespace tempo::apps {

void add_train(CLI::App& app);
void add_plan(CLI::App& app);
void add_report(CLI::App& app);
void add_eval(CLI::App& app);
void add_predict(CLI::App& app);
void add_export(CLI::App& app);
void add_keygen(CLI::App& app);
void add_picture(CLI::App& app);
void add_verify_evidence(CLI::App& app);
void add_policy(CLI::App& app);
void add_seal(CLI::App& app);
void add_unseal(CLI::App& app);
/// `tempo completion bash|zsh`. To be added last: it prints what the others have declared.
void add_completion(CLI::App& app);
#ifdef TEMPO_HAS_SERVICE
void add_serve(CLI::App& app);
void add_submit(CLI::App& app);
void add_status(CLI::App& app);
void add_logs(CLI::App& app);
void add_fetch(CLI::App& app);
void add_cancel(CLI::App& app);
#endif

}  // namespace tempo::apps
