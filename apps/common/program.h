/// What every program of Tempo does around its own work: threads that sleep while they wait, memory that is not dumped,
/// and errors that end in one line and an exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace tempo::apps {

/// Parses the command line, which runs the chosen callback. @returns the exit code.
/// @param prepare runs first. Programs that hold secrets pass `protect_process_memory`; it is a parameter because the
/// worker links this and must not link the code of secrets.
int run_program(CLI::App& app, int argc, char** argv, const std::function<void()>& prepare = {});

/// Threads that sleep while they wait, and memory that is kept for the next step. To be called first in `main`: starts
/// the program anew, unless OMP_WAIT_POLICY (or GOMP_SPINCOUNT) and GLIBC_TUNABLES are set.
void set_up_runtime(char** argv);

}  // namespace tempo::apps
