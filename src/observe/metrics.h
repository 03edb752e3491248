/// Counts and times for Prometheus. Linked by both sides and nothing secret in it: a metric holds numbers of things and
/// seconds, never a key, an operand or any other value that is blinded or to be blinded.
#pragma once

#include <map>
#include <memory>
#include <string>

namespace tempo::observe {

/// Name -> value of a label. Whoever scrapes reads them, and every new combination costs memory for good: values come
/// from a fixed set in the code, or from the configuration, never from a peer.
using Labels = std::map<std::string, std::string>;

/// Only grows. Like the others it is thread-safe, never throws, and belongs to the Metrics it came from.
class Counter {
 public:
  virtual ~Counter() = default;
  /// @param amount 0 or more; less is ignored.
  virtual void add(double amount = 1) noexcept = 0;
};

/// How much there is at the moment.
class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void set(double amount) noexcept = 0;
  /// @param amount may be below 0.
  virtual void add(double amount) noexcept = 0;
};

/// How long things take: the buckets end at 0.1 ms, then at 1, 2.5 and 5 of every power of ten, up to 60 s.
class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void observe(double seconds) noexcept = 0;
};

/// A set of metrics that is served together. Made by whoever runs the process and handed to what counts; there may be
/// several. Thread-safe. In a build without Prometheus (TEMPO_METRICS=OFF) everything is there and counts nothing.
///
/// Asking again for the same name and labels gives the same metric. References hold as long as this lives. Ask once, at
/// the start: a lookup takes locks, and what was asked for is served from then on, with 0 where nothing happened yet.
/// @throws std::invalid_argument where a name is none of Prometheus', or that of a metric of another kind: a mistake in
/// the code, not of the user.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// @param name ends in _total, by Prometheus' convention.
  Counter& counter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge& gauge(const std::string& name, const std::string& help, const Labels& labels = {});
  /// @param name ends in _seconds.
  Histogram& histogram(const std::string& name, const std::string& help, const Labels& labels = {});

 private:
  friend class MetricsServer;
  struct State;
  const std::unique_ptr<State> state_;
};

/// Serves `http://HOST:PORT/metrics` until destroyed, on threads of its own. It is plain HTTP and asks nobody who they
/// are: listen on localhost, or on a network that only the scraper reaches. What is read there is what the metrics say,
/// and how fast they change: operations, bytes and times.
class MetricsServer {
 public:
  /// @param host_port as of wire::parse_host_port; port 0 takes a free one. There is
  /// no default: who can read it is for the user to say. @param metrics need not outlive the server.
  /// @throws InputError for a bad address, one that is in use or not of this machine, and in a build without
  /// Prometheus.
  MetricsServer(const std::string& host_port, const Metrics& metrics);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  /// "http://localhost:9464/metrics", with the port that was taken.
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string address_;
};

}  // namespace tempo::observe
