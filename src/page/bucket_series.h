/// Values over training steps in bounded memory, however many steps there are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tempo::page {

/// Steps are gathered in buckets of equal width, a power of two: one step each at first. Where there would be more than
/// `kMostBuckets`, the width doubles. A bucket keeps sum, least and greatest of every field, so that a peak of one step
/// is still seen among a million. Not thread-safe.
class BucketSeries {
 public:
  static constexpr size_t kMostBuckets = 2000;

  /// @param fields names, which outlive it.
  explicit BucketSeries(std::span<const std::string_view> fields) : fields_(fields) {}

  /// @param step larger than the last one's. @param values one a field; NaN: none. @pre values.size() is that of fields
  void add(int64_t step, std::span<const double> values);
  /// Forgets what came after `step`. The bucket that holds it keeps what it has.
  void cut(int64_t step);

  [[nodiscard]] size_t size() const { return buckets_.size(); }
  /// Grows whenever buckets that were there change in another way than that the last one takes a further step.
  [[nodiscard]] uint64_t changes() const { return changes_; }
  /// The last step, or 0 if there is none.
  [[nodiscard]] int64_t last_step() const { return buckets_.empty() ? 0 : buckets_.back().last; }

  /// {"width":2,"from":N,"step":[...],"columns":{"loss":{"mean":[...],"least":[...],"greatest":[...]}},
  /// "totals":{"loss":...}}. `step` is the last of each bucket from number `from` on; `least` and `greatest` are left
  /// out while buckets are of one step, fields without any value always. Totals are of all buckets.
  [[nodiscard]] std::string to_json(size_t from) const;

 private:
  struct Cell {
    double sum = 0, least = 0, greatest = 0;
    int64_t count = 0;
    void take(const Cell& other);
  };
  struct Bucket {
    int64_t number = 0, last = 0;
    std::vector<Cell> cells;
  };
  void halve();

  std::span<const std::string_view> fields_;
  std::vector<Bucket> buckets_;
  int64_t width_ = 1;
  uint64_t changes_ = 0;
};

}  // namespace tempo::page
