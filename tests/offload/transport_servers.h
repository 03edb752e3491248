/// Workers for tests of transports: `tempo-worker` itself, in a process of its own.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "support/process.h"

namespace tempo::testing {

struct Transport {
  const char* name;
  const char* listen;  ///< for --listen; an embedded worker's URI where there is no process
};

inline constexpr Transport kTransports[] = {
    {"inprocess", "inprocess:cpu"},         {"shm", "shm://"},
    {"insecure", "insecure://127.0.0.1:0"}, {"insecure_ipv6", "insecure://[::1]:0"},
    {"grpc", "grpc://127.0.0.1:0"},
};

/// Certificates for 127.0.0.1, localhost and ::1, made once.
std::string tls_folder();

class WorkerProcess {
 public:
  /// Waits until it listens. @param more flags of tempo-worker.
  explicit WorkerProcess(const std::string& listen, std::vector<std::string> more = {});
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  [[nodiscard]] const std::string& uri() const { return uri_; }
  [[nodiscard]] bool is_a_process() const { return id_ > 0 || is_killed_; }
  [[nodiscard]] pid_t id() const { return id_; }
  /// As a crash would.
  void kill();
  /// SIGTERM; the exit code.
  int stop();
  /// Resident memory, MiB.
  [[nodiscard]] double resident_mib() const;

 private:
  std::string uri_;
  pid_t id_ = -1;
  bool is_killed_ = false;
};

std::unique_ptr<WorkerProcess> start_worker(const Transport& transport);

}  // namespace tempo::testing
