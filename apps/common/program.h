/// What every program of Tempo does around its own work: threads that sleep while they wait, memory that is not dumped,
/// and errors that end in one line and an exit code.
#pragma once

#include <CLI/CLI.hpp>

namespace tempo::apps {

/// Parses the command line, which runs the chosen subcommand's callback. @returns the exit code.
int run_program(CLI::App& app, int argc, char** argv);

/// To be called first in `main`: may start the program anew.
void sleep_while_waiting(char** argv);

}  // namespace tempo::apps
