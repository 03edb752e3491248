#include "common/program.h"

#include <fmt/format.h>
#include <torch/torch.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <string>

#include "observe/standard_streams.h"
#include "tempo/error.h"

namespace tempo::apps {
namespace {

/// CLI11 would say only that something was not expected.
bool is_unknown_command(const CLI::App& app, const std::string& word, std::string& names) {
  bool is_known = false;
  for (const auto* command : app.get_subcommands({})) {
    is_known = is_known || command->get_name() == word;
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  return !is_known;
}

void refuse_unknown_command(const CLI::App& app, int argc, char** argv) {
  if (std::string names;
      !app.get_subcommands({}).empty() && argc > 1 && argv[1][0] != '-' && is_unknown_command(app, argv[1], names))
    throw InputError(fmt::format("got the command \"{}\", expected one of {}", argv[1], names));
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
  throw InputError(fmt::format("{}; see {} --help", error.what(), app.get_name()));
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
  // the very work they wait for (docs/performance.md), and waiting is booked as the TEE's CPU time.
  if (std::getenv("GOMP_SPINCOUNT") == nullptr) set_default("OMP_WAIT_POLICY", "passive");
  // A step allocates and frees the same tensors again and again. By default each large one is mapped and unmapped, and
  // the kernel clears its pages: a sixth of the TEE's time (docs/performance.md). Kept instead, in huge pages.
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
