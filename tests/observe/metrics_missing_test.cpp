#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "observe/metrics.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::observe {
namespace metrics_missing_test {

TEST(MetricsMissing, WithoutPrometheusMetricsCountAndAServerIsRefused) {
  Metrics metrics;
  metrics.counter("steps_total", "").add();
  metrics.gauge("sessions", "").set(2);
  metrics.histogram("step_seconds", "").observe(0.1);
  EXPECT_THAT(testing::message_of<InputError>([&] { MetricsServer("localhost:0", metrics); }),
              ::testing::HasSubstr("built without Prometheus"));
}

}  // namespace metrics_missing_test
}  // namespace tempo::observe
