/// Completion of a program's command line in a shell, from the commands and flags that the program declares.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace tempo::apps {

/// The options of a command, those of its groups included.
std::vector<const CLI::Option*> options_of(const CLI::App& command);
/// The commands below a command; its groups of options, which have no name, are none.
std::vector<const CLI::App*> commands_below(const CLI::App& command);

/// @returns a script to be sourced by bash 4 or later. It completes commands, flags, the values of flags that have a
/// few, and paths.
std::string bash_completion(const CLI::App& app);
/// @returns the text of a completion function for zsh, to be saved as `_NAME` in a folder of `fpath`.
std::string zsh_completion(const CLI::App& app);

}  // namespace tempo::apps
