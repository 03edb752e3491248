#include "common/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <vector>

namespace tempo::apps {
namespace {

/// "none|permuted|rotated" in parentheses, as the help of a flag ends in, or nothing.
std::vector<std::string> choices_in(const std::string& help) {
  const size_t close = help.rfind(')'), open = help.rfind('(', close);
  if (open == std::string::npos || close == std::string::npos) return {};
  const std::string inside = help.substr(open + 1, close - open - 1);
  if (inside.find('|') == std::string::npos || inside.find(' ') != std::string::npos) return {};
  std::vector<std::string> choices;
  for (size_t begin = 0; begin <= inside.size();) {
    const size_t end = std::min(inside.find('|', begin), inside.size());
    choices.push_back(inside.substr(begin, end - begin));
    begin = end + 1;
  }
  return choices;
}

struct Flag {
  std::string name, help;
  bool takes_value;
  std::vector<std::string> choices;
};

std::vector<Flag> flags_of(const CLI::App& command) {
  std::vector<Flag> flags;
  for (const CLI::Option* option : options_of(command))
    for (const std::string& name : option->get_lnames()) {
      const std::string& help = option->get_description();
      flags.push_back({"--" + name, help, option->get_items_expected_max() > 0, choices_in(help)});
    }
  return flags;
}

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : commands_below(app)) names.push_back(command->get_name());
  return names;
}

/// Calls `visit(words, command)` for each command that has no commands of its own; words are "policy from", say.
void for_each_command(const CLI::App& app, const std::string& words,
                      const std::function<void(const std::string&, const CLI::App&)>& visit) {
  for (const CLI::App* command : commands_below(app)) {
    const std::string path = words.empty() ? command->get_name() : words + " " + command->get_name();
    visit(path, *command);
    for_each_command(*command, path, visit);
  }
}

std::string bash_flag_cases(const std::string& words, const CLI::App& command) {
  std::string cases;
  std::vector<std::string> names;
  for (const Flag& flag : flags_of(command)) {
    names.push_back(flag.name);
    if (!flag.choices.empty())
      cases += fmt::format("    \"{} {}\") choices=\"{}\" ;;\n", words, flag.name, fmt::join(flag.choices, " "));
    else if (flag.takes_value)
      cases += fmt::format("    \"{} {}\") compopt -o default; return ;;\n", words, flag.name);
  }
  std::vector<std::string> next = commands_of(command);
  next.insert(next.end(), names.begin(), names.end());
  return cases + fmt::format("    \"{} \"*) choices=\"{}\" ;;\n", words, fmt::join(next, " "));
}

/// Text between single quotes and square brackets of zsh's _arguments.
std::string zsh_quoted(const std::string& text) {
  std::string quoted;
  for (const char c : text) {
    if (c == '\'') quoted += "'\\'";
    if (c == '[' || c == ']' || c == ':' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted;
}

std::string zsh_arguments(const CLI::App& command) {
  std::string lines;
  for (const Flag& flag : flags_of(command)) {
    std::string value;
    if (!flag.choices.empty())
      value = fmt::format(":value:({})", fmt::join(flag.choices, " "));
    else if (flag.takes_value)
      value = ":value:_files";
    lines += fmt::format(" \\\n        '{}[{}]{}'", flag.name, zsh_quoted(flag.help), value);
  }
  return "_arguments" + lines;
}

}  // namespace

std::vector<const CLI::Option*> options_of(const CLI::App& command) {
  std::vector<const CLI::Option*> options = command.get_options();
  for (const CLI::App* group : command.get_subcommands({}))
    if (group->get_name().empty())
      for (const CLI::Option* option : options_of(*group))
        if (option != group->get_help_ptr()) options.push_back(option);  // the command has one of its own
  return options;
}

std::vector<const CLI::App*> commands_below(const CLI::App& command) {
  std::vector<const CLI::App*> commands;
  for (const CLI::App* below : command.get_subcommands({}))
    if (!below->get_name().empty()) commands.push_back(below);
  return commands;
}

std::string bash_completion(const CLI::App& app) {
  const std::string name = app.get_name();
  std::string cases;
  for_each_command(app, "", [&](const std::string& words, const CLI::App& command) {
    // A longer command first: `case` takes the first pattern that fits.
    cases = bash_flag_cases(words, command) + cases;
  });
  std::vector<std::string> first = commands_of(app);
  for (const Flag& flag : flags_of(app)) first.push_back(flag.name);
  return fmt::format(R"(# Completion of {0} for bash: source <({0} completion bash)
_{0}() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} choices="" at=1 path=""
  # The commands stand before the first flag.
  while [ "$at" -lt "$COMP_CWORD" ] && [ "${{COMP_WORDS[at]#-}}" = "${{COMP_WORDS[at]}}" ]; do
    path="$path${{path:+ }}${{COMP_WORDS[at]}}"
    at=$((at + 1))
  done
  [ "$previous" = "${{COMP_WORDS[at-1]}}" ] && [ "$at" -eq "$COMP_CWORD" ] && previous=""
  case "$path $previous" in
    " "*) choices="{2}" ;;
{1}  esac
  COMPREPLY=($(compgen -W "$choices" -- "$word"))
}}
complete -F _{0} {0}
)",
                     name, cases, fmt::join(first, " "));
}

std::string zsh_completion(const CLI::App& app) {
  const std::string name = app.get_name();
  std::string cases, described;
  for_each_command(app, "", [&](const std::string& words, const CLI::App& command) {
    const std::vector<std::string> inner = commands_of(command);
    if (words.find(' ') == std::string::npos)
      described += fmt::format("    '{}:{}'\n", words, zsh_quoted(command.get_description()));
    const auto depth = 1 + std::count(words.begin(), words.end(), ' ');
    const std::string body =
        inner.empty() ? fmt::format("shift {0} words; (( CURRENT -= {0} ))\n      {1}", depth, zsh_arguments(command))
                      : fmt::format("compadd {}", fmt::join(inner, " "));
    cases = fmt::format("    '{} '*)\n      {}\n      ;;\n", words, body) + cases;
  });
  return fmt::format(R"(#compdef {0}
# Completion of {0} for zsh: save this as _{0} in a folder of $fpath.
_{0}() {{
  local -a commands
  commands=(
{1}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case "$words[2] $words[3] " in
{2}  esac
}}
_{0} "$@"
)",
                     name, described, cases);
}

}  // namespace tempo::apps
