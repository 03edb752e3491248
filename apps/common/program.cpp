#include "common/program.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/completion.h"
#include "common/suggestion.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"

namespace tempo::apps {
namespace {

/// CLI11 would say only that something was not expected.
void refuse_unknown_command(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> names;
  for (const auto* command : commands_below(app)) names.push_back(command->get_name());
  if (names.empty() || argc < 2 || argv[1][0] == '-' || std::ranges::count(names, argv[1]) > 0) return;
  throw InputError(fmt::format("got the command \"{}\", expected one of {}{}", argv[1], fmt::join(names, ", "),
                               suggestion(argv[1], names)));
}

/// The command that was chosen, and its name with those it stands below: "tempo policy init".
std::pair<const CLI::App*, std::string> chosen_command(const CLI::App& app) {
  const CLI::App* command = &app;
  std::string name = app.get_name();
  for (bool is_deeper = true; is_deeper;) {
    is_deeper = false;
    for (const CLI::App* parsed : command->get_subcommands()) {
      if (parsed->get_name().empty()) continue;  // a group of options
      command = parsed;
      name += " " + command->get_name();
      is_deeper = true;
      break;
    }
  }
  return {command, name};
}

/// One line for what is wrong with the command line. A flag that does not exist comes first, with the one that may have
/// been meant: a flag that is missing may be the same one.
[[noreturn]] void refuse(const CLI::App& app, const CLI::ParseError& error) {
  const auto [command, name] = chosen_command(app);
  for (const std::string& word : app.remaining(true)) {
    if (!word.starts_with("--")) continue;
    std::vector<std::string> flags;
    for (const CLI::Option* option : options_of(*command))
      for (const std::string& flag : option->get_lnames()) flags.push_back("--" + flag);
    const std::string given = word.substr(0, word.find('='));
    throw InputError(fmt::format("got {}, which {} does not take{}{} see {} --help", given, name,
                                 suggestion(given, flags), nearest_word(given, flags).empty() ? ";" : "", name));
  }
  throw InputError(fmt::format("{}; see {} --help", error.what(), name));
}

int print_help_or_version(const CLI::App& app, const CLI::Success& wanted) {
  std::ostringstream text;
  const int code = app.exit(wanted, text, text);
  observe::print_text(text.str());
  return code;
}

int parse(CLI::App& app, int argc, char** argv) try {
  app.parse(argc, argv);
  return 0;
} catch (const CLI::Success& wanted) {
  return print_help_or_version(app, wanted);
} catch (const CLI::ParseError& error) {
  refuse(app, error);
} catch (const c10::Error& error) {
  throw RunError(std::string(observe::first_line(error.what_without_backtrace())));
}

}  // namespace

void set_up_runtime(char** argv) {
  // The libraries read these once, before main: so they are set and the program started anew. What a user has set
  // stays.
  bool is_changed = false;
  const auto set_default = [&](const char* name, const char* value) {
    if (std::getenv(name) == nullptr) is_changed = setenv(name, value, 1) == 0 || is_changed;
  };
  // OpenMP threads spin while they wait, by default. On a machine that does anything else they then steal the time of
  // the very work they wait for (docs/notes/performance.md), and waiting is booked as the TEE's CPU time.
  if (std::getenv("GOMP_SPINCOUNT") == nullptr) set_default("OMP_WAIT_POLICY", "passive");
  // A step allocates and frees the same tensors again and again. By default each large one is mapped and unmapped, and
  // the kernel clears its pages: a sixth of the TEE's time (docs/notes/kernels.md). Kept instead, in huge pages.
  set_default("GLIBC_TUNABLES",
              "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:"
              "glibc.malloc.top_pad=67108864");
  if (is_changed) execv("/proc/self/exe", argv);
  // Where exec is not allowed the program goes on, only slower.
}

int run_program(CLI::App& app, int argc, char** argv, const std::function<void()>& prepare) {
  return observe::run_and_report(app.get_name(), [&] {
    refuse_unknown_command(app, argc, argv);
    if (prepare) prepare();
    return parse(app, argc, argv);
  });
}

}  // namespace tempo::apps
