// How fast operands reach a worker in another process and replies come back, in wall time.
//   put      the master copies a tensor into memory that `allocate` gave, puts it, and waits until the worker has it
//   reply    the master fetches tensors and copies them into memory of its own
//   tiny     one operation on one number, there and back: p50 and p99 in microseconds
// GB/s counts every tensor once. of_memcpy and of_tcp compare with a memcpy and a raw TCP connection over loopback that
// move as many tensors of the same size, taken in turns with the transport: the same noise for all.
//   tempo-bench transport [URI...]     workers that run already, beside those that it starts itself
// Every reply is compared with what was put.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/temporary_folder.h"
#include "benches.h"
#include "offload/worker_factory.h"
#include "seal/tls_certificates.h"
#include "wire/descriptor.h"
#include "worker/server/grpc_server.h"
#include "worker/server/process_memory.h"
#include "worker/server/shm_server.h"

namespace {

using namespace tempo;
using Clock = std::chrono::steady_clock;
using Bytes = std::vector<std::byte>;

constexpr size_t kTensorBytes = size_t{16} << 20;
constexpr size_t kTensors = 4;  // moved before waiting: a layer's operands and replies overlap, too
constexpr int kThreads = 1;
const contract::TensorSpec kSpec = {.shape = {int64_t{kTensorBytes / sizeof(float)}}};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

template <typename Body>
double timed(const Body& body) {
  const auto start = Clock::now();
  body();
  benchmark::ClobberMemory();
  return seconds_since(start);
}

void check(bool is_fine, const char* what) {
  if (!is_fine) throw std::runtime_error(what);
}

const std::string& tls_folder() {
  static const TemporaryFolder folder;
  static const std::string name = folder.path() / "tls";
  return name;
}

const Bytes& source() {
  static const Bytes bytes = [] {
    Bytes filled(kTensorBytes);
    for (size_t i = 0; i < filled.size(); ++i) filled[i] = static_cast<std::byte>(i * 2654435761U >> 13);
    return filled;
  }();
  return bytes;
}

/// Runs `body` in a process of its own that ends with this one. Before any thread is started.
template <typename Body>
void in_another_process(const Body& body) {
  if (fork() != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  _exit(0);
}

void write_all(int socket, const std::byte* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = write(socket, data, bytes);
    check(written > 0, "tcp: cannot write");
    data += written;
    bytes -= static_cast<size_t>(written);
  }
}

void read_all(int socket, std::byte* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = read(socket, data, bytes);
    check(got > 0, "tcp: cannot read");
    data += got;
    bytes -= static_cast<size_t>(got);
  }
}

/// A peer over loopback that takes or gives tensors: what any transport over TCP is measured by.
class TcpYardstick {
 public:
  /// Starts the peer: before any thread.
  TcpYardstick() {
    wire::UniqueDescriptor listening(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof address;
    check(bind(listening.get(), reinterpret_cast<sockaddr*>(&address), bytes) == 0 && listen(listening.get(), 1) == 0,
          "tcp: cannot listen");
    getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &bytes);
    in_another_process([&] { serve(listening.get()); });
    socket_ = wire::UniqueDescriptor(socket(AF_INET, SOCK_STREAM, 0));
    check(connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), bytes) == 0, "tcp: cannot connect");
    set_no_delay(socket_.get());
  }

  void put() {
    command('p');
    for (size_t i = 0; i < kTensors; ++i) write_all(socket_.get(), source().data(), kTensorBytes);
    std::byte done;
    read_all(socket_.get(), &done, 1);
  }
  void reply(Bytes& into) {
    command('r');
    for (size_t i = 0; i < kTensors; ++i) read_all(socket_.get(), into.data(), kTensorBytes);
  }
  void tiny() {
    command('t');
    std::byte done;
    read_all(socket_.get(), &done, 1);
  }

 private:
  static void set_no_delay(int socket) {
    const int yes = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  }

  static void serve(int listening) {
    const int socket = accept(listening, nullptr, nullptr);
    set_no_delay(socket);
    Bytes memory(kTensorBytes);
    for (std::byte command{}; read(socket, &command, 1) == 1;) {
      if (command == std::byte{'p'})
        for (size_t i = 0; i < kTensors; ++i) read_all(socket, memory.data(), kTensorBytes);
      if (command == std::byte{'r'})
        for (size_t i = 0; i < kTensors; ++i) write_all(socket, memory.data(), kTensorBytes);
      else
        write_all(socket, &command, 1);
    }
  }

  void command(char what) {
    const auto byte = static_cast<std::byte>(what);
    write_all(socket_.get(), &byte, 1);
  }

  wire::UniqueDescriptor socket_;
};

class MemcpyYardstick {
 public:
  void run() {
    for (Bytes& to : to_) std::memcpy(to.data(), source().data(), kTensorBytes);
  }

 private:
  std::vector<Bytes> to_ = std::vector<Bytes>(kTensors, Bytes(kTensorBytes));
};

/// One worker with a number and kTensors tensors stored.
class Fixture {
 public:
  explicit Fixture(const std::string& uri)
      : worker_(offload::make_worker(uri, {.threads = kThreads, .tls_folder = tls_folder()})), received_(kTensorBytes) {
    contract::Buffer number = worker_->allocate({.shape = {1}});
    std::memset(number.data(), 0, number.bytes());
    worker_->put(kNumber, number);
    put();
  }

  /// Replaces the stored tensors.
  void put() {
    if (first_ != 0) worker_->free(stored());
    first_ = next_;
    next_ += kTensors;
    for (const contract::OperandId id : stored()) {
      const contract::Buffer buffer = worker_->allocate(kSpec);
      std::memcpy(buffer.data(), source().data(), kTensorBytes);
      worker_->put(id, buffer);
    }
    tiny();  // operations are carried out in order: what was put before is there
  }

  void reply() {
    std::vector<std::future<contract::Buffer>> replies;
    for (const contract::OperandId id : stored()) replies.push_back(worker_->submit(contract::Fetch{id}));
    for (auto& reply : replies) {
      const contract::Buffer buffer = reply.get();
      check(buffer.bytes() == kTensorBytes, "a reply of the wrong size");
      std::memcpy(received_.data(), buffer.data(), kTensorBytes);
    }
  }

  void tiny() { worker_->submit(contract::Fetch{kNumber}).get(); }

  /// Whether every stored tensor comes back as it was put.
  bool is_right() {
    for (const contract::OperandId id : stored()) {
      const contract::Buffer buffer = worker_->submit(contract::Fetch{id}).get();
      if (buffer.bytes() != kTensorBytes || std::memcmp(buffer.data(), source().data(), kTensorBytes) != 0)
        return false;
    }
    return received_ == source() || received_ == Bytes(kTensorBytes);  // of reply(), if it ran
  }

 private:
  static constexpr contract::OperandId kNumber = 1;

  [[nodiscard]] std::vector<contract::OperandId> stored() const {
    std::vector<contract::OperandId> ids(kTensors);
    for (size_t i = 0; i < kTensors; ++i) ids[i] = first_ + i;
    return ids;
  }

  std::shared_ptr<contract::Worker> worker_;
  Bytes received_;
  contract::OperandId first_ = 0, next_ = kNumber + 1;
};

constexpr double kBytesMoved = static_cast<double>(kTensors * kTensorBytes);

/// Times `body` and both yardsticks in turns.
template <typename Body, typename Tcp>
void compare(benchmark::State& state, const Body& body, const Tcp& tcp) {
  MemcpyYardstick copy;
  double body_seconds = 0, copy_seconds = 0, tcp_seconds = 0;
  for (int i = 0; i < 2; ++i) {  // touches all memory once
    body();
    copy.run();
    tcp();
  }
  for (auto _ : state) {
    const double seconds = timed(body);
    state.SetIterationTime(seconds);
    body_seconds += seconds;
    copy_seconds += timed([&] { copy.run(); });
    tcp_seconds += timed(tcp);
  }
  const auto runs = static_cast<double>(state.iterations());
  state.counters["GB/s"] = 1e-9 * kBytesMoved * runs / body_seconds;
  state.counters["of_memcpy"] = copy_seconds / body_seconds;
  state.counters["of_tcp"] = tcp_seconds / body_seconds;
}

void finish(benchmark::State& state, Fixture& fixture) {
  if (!fixture.is_right()) state.SkipWithError("not what was put: timing discarded");
}

void put_bench(benchmark::State& state, const std::string& uri, TcpYardstick* tcp) {
  Fixture fixture(uri);
  compare(
      state, [&] { fixture.put(); }, [&] { tcp->put(); });
  finish(state, fixture);
}

void reply_bench(benchmark::State& state, const std::string& uri, TcpYardstick* tcp) {
  Fixture fixture(uri);
  Bytes memory(kTensorBytes);
  compare(
      state, [&] { fixture.reply(); }, [&] { tcp->reply(memory); });
  finish(state, fixture);
}

template <typename Body>
void latency(benchmark::State& state, const Body& body) {
  std::vector<double> seconds;
  for (int i = 0; i < 100; ++i) body();
  for (auto _ : state) {
    seconds.push_back(timed(body));
    state.SetIterationTime(seconds.back());
  }
  std::sort(seconds.begin(), seconds.end());
  state.counters["p50_us"] = 1e6 * seconds[seconds.size() / 2];
  state.counters["p99_us"] = 1e6 * seconds[seconds.size() * 99 / 100];
}

void tiny_bench(benchmark::State& state, const std::string& uri) {
  Fixture fixture(uri);
  latency(state, [&] { fixture.tiny(); });
  finish(state, fixture);
}

template <typename... Arguments>
benchmark::internal::Benchmark* add(const std::string& name, Arguments&&... arguments) {
  return benchmark::RegisterBenchmark(name.c_str(), std::forward<Arguments>(arguments)...)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void add_yardsticks(TcpYardstick* tcp) {
  add("memcpy", [tcp](benchmark::State& state) {
    MemcpyYardstick copy;
    compare(
        state, [&] { copy.run(); }, [&] { tcp->put(); });
  });
  add("tcp/put", [tcp](benchmark::State& state) {
    compare(
        state, [&] { tcp->put(); }, [&] { tcp->put(); });
  });
  add("tcp/reply", [tcp](benchmark::State& state) {
    Bytes memory(kTensorBytes);
    compare(
        state, [&] { tcp->reply(memory); }, [&] { tcp->reply(memory); });
  });
  add("tcp/tiny", [tcp](benchmark::State& state) { latency(state, [&] { tcp->tiny(); }); })->MinTime(0.2);
}

void add_worker(const std::string& uri, const std::string& label, TcpYardstick* tcp) {
  add(label + "/put", put_bench, uri, tcp);
  add(label + "/reply", reply_bench, uri, tcp);
  add(label + "/tiny", tiny_bench, uri)->MinTime(0.2);
}

/// Starts a worker in a process of its own, on a free port. Before any thread is started. @returns its URI
template <typename Serve>
std::string start_worker(const Serve& serve) {
  int address[2];
  check(pipe(address) == 0, "no pipe");
  in_another_process([&] {
    worker::keep_freed_memory();
    const std::unique_ptr<worker::Server> server = serve();
    const std::string uri = server->address();
    check(write(address[1], uri.data(), uri.size()) == static_cast<ssize_t>(uri.size()), "no address");
    close(address[1]);
    for (;;) pause();
  });
  close(address[1]);
  std::string uri;
  for (char c = 0; read(address[0], &c, 1) == 1;) uri += c;
  close(address[0]);
  check(!uri.empty(), "a worker did not start");
  return uri;
}

}  // namespace

int tempo::bench::run_transport(int argc, char** argv) {
  worker::ServerOptions options;
  options.segment_bytes = size_t{1} << 30;
  const std::string shm =
      start_worker([&] { return worker::serve_shm(fmt::format("tempo-bench-{}", getppid()), options); });
  seal::create_tls_certificates(tls_folder(), {});
  options.tls_folder = tls_folder();
  const std::string plain = start_worker([&] { return worker::serve_insecure("127.0.0.1:0", options); });
  const std::string tls = start_worker([&] { return worker::serve_grpc("127.0.0.1:0", options); });
  TcpYardstick tcp;
  benchmark::Initialize(&argc, argv);
  add_yardsticks(&tcp);
  add_worker("inprocess:cpu", "inprocess", &tcp);
  add_worker(shm, "shm", &tcp);
  add_worker(plain, "grpc_insecure", &tcp);
  add_worker(tls, "grpc_tls", &tcp);
  for (int i = 1; i < argc; ++i) add_worker(argv[i], argv[i], &tcp);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
