#include "worker/telemetry.h"

#include <array>
#include <atomic>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace tempo::worker {
namespace {

using observe::Counter;
using observe::Gauge;
using observe::Histogram;
using observe::Metrics;

constexpr size_t kKinds = std::variant_size_v<contract::Operation>;
// A master that has everything refused must not fill the disk.
constexpr uint64_t kRefusalLines = 100;  // of one session

template <size_t... kIndex>
std::array<std::string, kKinds> kind_names(std::index_sequence<kIndex...>) {
  return {contract::operation_name(contract::Operation(std::in_place_index<kIndex>))...};
}

const char* text(SessionEnd end) {
  switch (end) {
    case SessionEnd::kMasterLeft:
      return "master_left";
    case SessionEnd::kWorkerStopped:
      return "worker_stopped";
    case SessionEnd::kProtocolError:
      return "protocol_error";
    case SessionEnd::kFailed:
      break;
  }
  return "failed";
}

const char* text(RefusalCause cause) {
  switch (cause) {
    case RefusalCause::kOperandMissing:
      return "operand_missing";
    case RefusalCause::kTooLarge:
      return "too_large";
    case RefusalCause::kNotComputable:
      break;
  }
  return "not_computable";
}

/// The metrics of one kind of operation.
struct KindMetrics {
  KindMetrics(Metrics& metrics, const std::string& name)
      : done(operations(metrics, name, "done")),
        refused(operations(metrics, name, "refused")),
        seconds(metrics.histogram("tempo_worker_operation_seconds", "Time of an operation in the executor.",
                                  {{"operation", name}})) {}

  static Counter& operations(Metrics& metrics, const std::string& name, const char* outcome) {
    return metrics.counter("tempo_worker_operations_total", "Operations of masters, by outcome.",
                           {{"operation", name}, {"outcome", outcome}});
  }

  Counter &done, &refused;
  Histogram& seconds;
};

struct WorkerMetrics {
  explicit WorkerMetrics(Metrics& metrics)
      : sessions(metrics.gauge("tempo_worker_sessions", "Masters connected.")),
        sessions_refused(metrics.counter("tempo_worker_sessions_refused_total",
                                         "Masters turned away because as many were served as may be.")),
        operand_bytes(metrics.counter("tempo_worker_operand_bytes_total", "Bytes of operands received.")),
        reply_bytes(metrics.counter("tempo_worker_reply_bytes_total", "Bytes of results.")),
        replies_refused(metrics.counter("tempo_worker_replies_refused_total",
                                        "Results that had no room in shared memory; they were not sent.")),
        stored_bytes(metrics.gauge("tempo_worker_stored_bytes", "Bytes of operands stored, of all masters.")),
        kind_names(worker::kind_names(std::make_index_sequence<kKinds>())) {
    for (const SessionEnd end :
         {SessionEnd::kMasterLeft, SessionEnd::kWorkerStopped, SessionEnd::kProtocolError, SessionEnd::kFailed})
      ended.push_back(&metrics.counter("tempo_worker_sessions_ended_total", "Sessions that ended, by reason.",
                                       {{"reason", text(end)}}));
    for (const std::string& name : kind_names) kinds.emplace_back(metrics, name);
  }

  Gauge& sessions;
  Counter &sessions_refused, &operand_bytes, &reply_bytes, &replies_refused;
  Gauge& stored_bytes;
  std::array<std::string, kKinds> kind_names;
  std::vector<Counter*> ended;  // by SessionEnd
  std::vector<KindMetrics> kinds;
};

/// What all sessions share.
struct Shared {
  Shared(Metrics& registry, observe::Log& session_log) : metrics(registry), log(session_log) {}

  WorkerMetrics metrics;
  observe::Log& log;
  std::atomic<uint64_t> sessions = 0;  // begun so far
};

class SessionTelemetry final : public SessionMonitor {
 public:
  SessionTelemetry(std::shared_ptr<Shared> shared, std::string_view transport)
      : shared_(std::move(shared)), session_(++shared_->sessions) {
    metrics().sessions.add(1);
    log().info("session_began", {{"session", session_}, {"transport", transport}});
  }

  void received(uint64_t bytes) noexcept override { metrics().operand_bytes.add(static_cast<double>(bytes)); }

  void stored(uint64_t bytes) noexcept override {
    const uint64_t before = stored_.exchange(bytes);
    if (bytes != before) metrics().stored_bytes.add(static_cast<double>(bytes) - static_cast<double>(before));
  }

  void done(const OperationTag& operation, double seconds, uint64_t reply_bytes) noexcept override {
    KindMetrics& kind = metrics().kinds[operation.kind];
    kind.done.add();
    kind.seconds.observe(seconds);
    metrics().reply_bytes.add(static_cast<double>(reply_bytes));
    ++done_;
  }

  void refused(const OperationTag& operation, RefusalCause cause) noexcept override {
    metrics().kinds[operation.kind].refused.add();
    if (!may_log_refusal()) return;
    const std::string& kind = metrics().kind_names[operation.kind];
    const char* event = "operation_refused";
    if (operation.step)
      log().warning(event, {{"session", session_},
                            {"operation", operation.number},
                            {"kind", kind},
                            {"step", *operation.step},
                            {"reason", text(cause)}});
    else
      log().warning(event,
                    {{"session", session_}, {"operation", operation.number}, {"kind", kind}, {"reason", text(cause)}});
  }

  void reply_refused(uint64_t number, uint64_t bytes) noexcept override {
    metrics().replies_refused.add();
    if (may_log_refusal())
      log().warning("reply_refused", {{"session", session_}, {"operation", number}, {"bytes", bytes}});
  }

  void ended(const Ending& ending) noexcept override {
    stored(0);
    metrics().sessions.add(-1);
    metrics().ended[static_cast<size_t>(ending.how)]->add();
    const std::initializer_list<observe::Field> fields = {{"session", session_},
                                                          {"reason", text(ending.how)},
                                                          {"done", done_.load()},
                                                          {"refused", refusals_.load()},
                                                          {"detail", ending.detail}};
    if (ending.how == SessionEnd::kProtocolError || ending.how == SessionEnd::kFailed)
      log().warning("session_ended", fields);
    else
      log().info("session_ended", fields);
  }

 private:
  WorkerMetrics& metrics() { return shared_->metrics; }
  observe::Log& log() { return shared_->log; }

  bool may_log_refusal() noexcept {
    const uint64_t count = ++refusals_;
    if (count == kRefusalLines + 1)
      log().warning("refusals_not_logged", {{"session", session_}, {"logged", kRefusalLines}});
    return count <= kRefusalLines;
  }

  const std::shared_ptr<Shared> shared_;
  const uint64_t session_;
  std::atomic<uint64_t> stored_ = 0, done_ = 0, refusals_ = 0;
};

class Telemetry final : public Monitor {
 public:
  Telemetry(Metrics& metrics, observe::Log& log) : shared_(std::make_shared<Shared>(metrics, log)) {}

  std::shared_ptr<SessionMonitor> session_began(std::string_view transport) override {
    return std::make_shared<SessionTelemetry>(shared_, transport);
  }
  void session_refused(std::string_view transport) noexcept override {
    shared_->metrics.sessions_refused.add();
    shared_->log.warning("session_refused", {{"transport", transport}});
  }

 private:
  const std::shared_ptr<Shared> shared_;
};

}  // namespace

std::shared_ptr<Monitor> make_telemetry(observe::Metrics& metrics, observe::Log& log) {
  return std::make_shared<Telemetry>(metrics, log);
}

}  // namespace tempo::worker
