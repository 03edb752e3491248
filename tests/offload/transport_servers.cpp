#include "offload/transport_servers.h"

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "seal/tls_certificates.h"
#include "support/temp_folder.h"

namespace tempo::testing {

std::string tls_folder() {
  static const TempFolder folder;
  static const std::string path = [] {
    const auto tls = folder / "tls";
    seal::create_tls_certificates(tls, {});
    return tls.string();
  }();
  return path;
}

WorkerProcess::WorkerProcess(const std::string& listen, std::vector<std::string> more) : uri_(listen) {
  if (listen.starts_with("inprocess:")) return;
  int output[2];
  if (pipe(output) != 0) throw std::runtime_error("no pipe for a worker");
  std::vector<std::string> command = {TEMPO_WORKER_PROGRAM, "--listen", listen, "--threads", "1", "--tls",
                                      tls_folder()};
  command.insert(command.end(), more.begin(), more.end());
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  id_ = fork();
  if (id_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("OMP_WAIT_POLICY", "passive",
           1);  // else it would start twice (apps/common/program.h): LibTorch loads slowly
    setenv("GLIBC_TUNABLES", "", 1);
    dup2(output[1], STDOUT_FILENO);
    close(output[0]);
    close(output[1]);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(output[1]);
  // "listening on URI, device ..."
  std::string line;
  for (char c = 0; read(output[0], &c, 1) == 1 && c != '\n';) line += c;
  close(output[0]);
  const std::string before = "listening on ";
  if (!line.starts_with(before)) throw std::runtime_error("tempo-worker says \"" + line + "\"");
  uri_ = line.substr(before.size(), line.find(',') - before.size());
}

WorkerProcess::~WorkerProcess() { kill(); }

void WorkerProcess::kill() {
  if (id_ <= 0) return;
  ::kill(id_, SIGKILL);
  waitpid(id_, nullptr, 0);
  id_ = -1;
  is_killed_ = true;
}

int WorkerProcess::stop() {
  int status = 0;
  ::kill(id_, SIGTERM);
  waitpid(id_, &status, 0);
  id_ = -1;
  is_killed_ = true;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

double WorkerProcess::resident_mib() const {
  std::ifstream statm("/proc/" + std::to_string(id_) + "/statm");
  double total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

std::unique_ptr<WorkerProcess> start_worker(const Transport& transport) {
  std::string listen = transport.listen;
  static int count = 0;
  if (listen == "shm://") listen += "tempo-conformance-" + std::to_string(getpid()) + "-" + std::to_string(++count);
  return std::make_unique<WorkerProcess>(listen);
}

}  // namespace tempo::testing
