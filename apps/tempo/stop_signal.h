/// Ctrl-C and SIGTERM as a flag that work looks at.
#pragma once

#include <atomic>

namespace tempo::apps {

/// Set by the first signal; a second one ends the process at once.
extern std::atomic<bool> stop_asked;

/// From now on the first SIGINT or SIGTERM sets `stop_asked`.
void listen_for_stop();

}  // namespace tempo::apps
