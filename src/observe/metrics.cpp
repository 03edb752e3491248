// Over prometheus-cpp's registry and text format, whose types stay in this file.
#include "observe/metrics.h"

#include <fmt/format.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <mutex>

#include "observe/http_server.h"
#include "tempo/error.h"
#include "wire/host_port.h"

namespace tempo::observe {
namespace {

const prometheus::Histogram::BucketBoundaries kSeconds = {1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2,
                                                          0.1,  0.25,   0.5,  1,    2.5,    5,    10,   25,     60};
constexpr const char* kPath = "/metrics";

class CounterOver final : public Counter {
 public:
  explicit CounterOver(prometheus::Counter& counter) : counter_(counter) {}
  void add(double amount) noexcept override { counter_.Increment(amount); }

 private:
  prometheus::Counter& counter_;
};

class GaugeOver final : public Gauge {
 public:
  explicit GaugeOver(prometheus::Gauge& gauge) : gauge_(gauge) {}
  void set(double amount) noexcept override { gauge_.Set(amount); }
  void add(double amount) noexcept override { gauge_.Increment(amount); }

 private:
  prometheus::Gauge& gauge_;
};

class HistogramOver final : public Histogram {
 public:
  explicit HistogramOver(prometheus::Histogram& histogram) : histogram_(histogram) {}
  void observe(double seconds) noexcept override { histogram_.Observe(seconds); }

 private:
  prometheus::Histogram& histogram_;
};

wire::HostPort parse_address(const std::string& host_port) {
  try {
    return wire::parse_host_port(host_port);
  } catch (const InputError& error) {
    throw InputError(fmt::format("metrics: {}", error.what()));
  }
}

}  // namespace

struct Metrics::State {
  // The library gives the same object for the same name and labels, so its address tells whether it is wrapped already.
  template <typename Over, typename Of>
  Over& wrap(std::map<const Of*, Over>& wrapped, Of& metric) {
    const std::lock_guard lock(mutex);
    return wrapped.try_emplace(&metric, metric).first->second;
  }

  // Shared: a server still reads it where it outlives the Metrics.
  const std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  std::mutex mutex;
  std::map<const prometheus::Counter*, CounterOver> counters;
  std::map<const prometheus::Gauge*, GaugeOver> gauges;
  std::map<const prometheus::Histogram*, HistogramOver> histograms;
};

Metrics::Metrics() : state_(std::make_unique<State>()) {}
Metrics::~Metrics() = default;

Counter& Metrics::counter(const std::string& name, const std::string& help, const Labels& labels) {
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(*state_->registry);
  return state_->wrap(state_->counters, family.Add(labels));
}

Gauge& Metrics::gauge(const std::string& name, const std::string& help, const Labels& labels) {
  auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(*state_->registry);
  return state_->wrap(state_->gauges, family.Add(labels));
}

Histogram& Metrics::histogram(const std::string& name, const std::string& help, const Labels& labels) {
  auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(*state_->registry);
  return state_->wrap(state_->histograms, family.Add(labels, kSeconds));
}

struct MetricsServer::State {
  HttpServer server;
};

MetricsServer::MetricsServer(const std::string& host_port, const Metrics& metrics) {
  wire::HostPort listen = parse_address(host_port);
  const auto body = [registry = metrics.state_->registry](const HttpQuery&) {
    return prometheus::TextSerializer().Serialize(registry->Collect());
  };
  HttpPages pages;
  pages[kPath] = {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = body};
  // Elsewhere than on loopback a scraper may know the machine by any name, as in a cluster.
  const HostCheck check = wire::is_loopback(listen.host) ? HostCheck::kOwnName : HostCheck::kAnyName;
  state_.reset(new State{.server = HttpServer("metrics", listen, check, std::move(pages))});
  listen.port = state_->server.port();
  address_ = fmt::format("http://{}{}", wire::to_string(listen), kPath);
}

MetricsServer::~MetricsServer() = default;

}  // namespace tempo::observe
