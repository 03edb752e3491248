// A worker for tests of shared memory:  shm_test_server NAME SEGMENT_MIB MAX_SESSIONS. Runs until it is killed, or its
// parent is gone.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "worker/server/process_memory.h"
#include "worker/server/shm_server.h"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  tempo::worker::keep_freed_memory();
  tempo::worker::ServerOptions options;
  options.segment_bytes = std::strtoull(argv[2], nullptr, 10) << 20;
  options.max_sessions = std::strtoull(argv[3], nullptr, 10);
  const auto server = tempo::worker::serve_shm(argv[1], options);
  for (;;) pause();
}
