// `tempo-bench instant-worker`: serves masters through the code of `tempo-worker`, and computes nothing.
#include "instant_worker.h"

#include <fmt/format.h>
#include <pthread.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "benches.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"
#include "wire/reply_size.h"
#include "worker/server/process_memory.h"
#include "worker/server/shm_server.h"

namespace tempo::bench {
namespace {

using contract::Buffer;
using contract::OperandId;
using contract::TensorSpec;

class InstantArithmetic final : public worker::Arithmetic {
 public:
  worker::Completion put(OperandId id, Buffer operand) override {
    kept_.erase(id);
    stored_[id] = std::move(operand);
    return {};
  }

  void free(const std::vector<OperandId>& ids) override {
    for (const OperandId id : ids) {
      stored_.erase(id);
      kept_.erase(id);
    }
  }

  worker::Started start(const contract::Operation& operation, const worker::Place& place) override {
    const auto result = wire::result_spec(operation, [this](OperandId id) { return spec_of(id); });
    if (!result)
      throw ProtocolError(fmt::format("worker: {} refused: it names operands that are not stored, or that do not fit",
                                      contract::operation_name(operation)));
    const TensorSpec reply = reply_to(operation, *result);
    if (std::optional<Buffer> there = place ? place(reply) : std::nullopt) return {*std::move(there), {}};
    Buffer zeros = Buffer::allocate(reply);
    if (zeros.bytes() > 0) std::memset(zeros.data(), 0, zeros.bytes());
    return {std::move(zeros), {}};
  }

 private:
  [[nodiscard]] const TensorSpec* spec_of(OperandId id) const {
    if (const auto kept = kept_.find(id); kept != kept_.end()) return &kept->second;
    const auto stored = stored_.find(id);
    return stored == stored_.end() ? nullptr : &stored->second.spec();
  }

  /// What is replied where this is the result. A gradient that is to stay here does.
  TensorSpec reply_to(const contract::Operation& operation, const TensorSpec& result) {
    TensorSpec reply = {.type = result.type, .shape = result.shape};
    if (const auto* forward = std::get_if<contract::Forward>(&operation)) reply.panels = forward->reply_panels;
    if (const auto* input = std::get_if<contract::InputGradient>(&operation)) reply.panels = input->reply_panels;
    const auto* weight = std::get_if<contract::WeightGradient>(&operation);
    if (weight == nullptr || weight->keep_as == 0) return reply;
    kept_[weight->keep_as] = reply;
    return {.type = contract::ElementType::kFloat64, .shape = {1}};  // its squared norm
  }

  std::unordered_map<OperandId, Buffer> stored_;
  std::unordered_map<OperandId, TensorSpec> kept_;
};

std::string parse_listen(int argc, char** argv) {
  std::string listen;
  CLI::App app("Answers masters at once with zeros, to measure them; no result is right", "tempo-bench instant-worker");
  app.add_option("--listen", listen, "where masters find it: shm://NAME")->required()->type_name("URI");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    std::exit(app.exit(help));
  } catch (const CLI::ParseError& error) {
    throw InputError(fmt::format("instant-worker: {}", error.what()));
  }
  return listen;
}

}  // namespace

std::unique_ptr<worker::Arithmetic> make_instant_arithmetic() { return std::make_unique<InstantArithmetic>(); }

int run_instant_worker(int argc, char** argv) {
  constexpr std::string_view kShm = "shm://";
  const std::string listen = parse_listen(argc, argv);
  if (!listen.starts_with(kShm))
    throw InputError(fmt::format("instant-worker: --listen: got \"{}\", expected shm://NAME", listen));
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  worker::ServerOptions options;
  options.arithmetic = make_instant_arithmetic;
  const auto server = worker::serve_shm(listen.substr(kShm.size()), options);
  observe::print("listening on {}: answers at once, and wrong\n", server->address());
  observe::flush_output();
  int signal = 0;
  while (sigwait(&signals, &signal) != 0) {
  }
  return 0;
}

}  // namespace tempo::bench
