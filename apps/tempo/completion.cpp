// tempo completion: the command line in a shell.
#include "common/completion.h"

#include "commands.h"
#include "observe/standard_streams.h"

namespace tempo::apps {

void add_completion(CLI::App& app) {
  auto* command = app.add_subcommand("completion", "Print a script that completes the command line in a shell");
  command->require_subcommand(1);
  command->add_subcommand("bash", "Print the script for bash: source <(tempo completion bash)")->callback([&app] {
    observe::print_text(bash_completion(app));
  });
  command->add_subcommand("zsh", "Print the function for zsh, to be saved as _tempo in a folder of fpath")
      ->callback([&app] { observe::print_text(zsh_completion(app)); });
}

}  // namespace tempo::apps
