// Stands in for the metrics where Tempo was built with TEMPO_METRICS=OFF: what counts need not know.
#include "observe/metrics.h"
#include "tempo/error.h"

namespace tempo::observe {
namespace {

struct NoCounter final : Counter {
  void add(double) noexcept override {}
};
struct NoGauge final : Gauge {
  void set(double) noexcept override {}
  void add(double) noexcept override {}
};
struct NoHistogram final : Histogram {
  void observe(double) noexcept override {}
};

}  // namespace

struct Metrics::State {
  NoCounter counter;
  NoGauge gauge;
  NoHistogram histogram;
};
struct MetricsServer::State {};

Metrics::Metrics() : state_(std::make_unique<State>()) {}
Metrics::~Metrics() = default;

Counter& Metrics::counter(const std::string&, const std::string&, const Labels&) { return state_->counter; }
Gauge& Metrics::gauge(const std::string&, const std::string&, const Labels&) { return state_->gauge; }
Histogram& Metrics::histogram(const std::string&, const std::string&, const Labels&) { return state_->histogram; }

MetricsServer::MetricsServer(const std::string&, const Metrics&) {
  throw InputError("metrics: this program was built without Prometheus (TEMPO_METRICS=OFF), expected no address");
}
MetricsServer::~MetricsServer() = default;

}  // namespace tempo::observe
